// A guest that stands, without its memory, as text: manifest.json of a snapshot, and what a migration sends first. With
// hashes that say whether it still is what it was.
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { UffdError, messageOf } from '../errors.js';
import { schemaIssue } from '../schema-issue.js';

export const FORMAT = 'uffd-vmm-snapshot';
export const VERSION = 1;

const unsigned = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const hex = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const base64 = v.pipe(v.string(), v.base64());
const decimal = v.pipe(v.string(), v.regex(/^\d{1,20}$/));

const vcpuSchema = v.object({
  id: unsigned,
  registers: base64,
  specialRegisters: base64,
  fpu: base64,
  events: base64,
  mpState: base64,
  msrs: v.array(v.tuple([unsigned, decimal])),
});

/** Whose bytes were hashed: while all of it is the same, nobody has written to the file since. */
const identitySchema = v.object({ device: decimal, inode: decimal, mtimeNs: decimal, ctimeNs: decimal });

const guestSchema = v.object({
  format: v.literal(FORMAT),
  version: v.literal(VERSION),
  architecture: v.literal('x64'),
  memory: v.object({ sizeBytes: unsigned }),
  work: v.object({ start: unsigned, end: unsigned, strideBytes: unsigned }),
  vcpus: v.pipe(v.array(vcpuSchema), v.minLength(1)),
});

const manifestSchema = v.object({
  ...guestSchema.entries,
  memory: v.object({ file: v.string(), sizeBytes: unsigned, sha256: hex, identity: identitySchema }),
});

/** A guest whose memory is somewhere else. */
export type GuestState = v.InferOutput<typeof guestSchema>;
/** A guest whose memory is a file beside it. */
export type Manifest = v.InferOutput<typeof manifestSchema>;
export type VcpuSnapshot = v.InferOutput<typeof vcpuSchema>;
export type FileIdentity = v.InferOutput<typeof identitySchema>;

/** The text of it: the guest, and the hash of it. */
export function manifestText(manifest: GuestState): string {
  return `${JSON.stringify({ manifest, sha256: hashOf(manifest) }, undefined, 2)}\n`;
}

/** @throws UffdError ERR_SNAPSHOT_INVALID with the reason */
export function parseManifest(text: string): Manifest {
  return parsed(manifestSchema, text);
}

/** @throws UffdError ERR_SNAPSHOT_INVALID with the reason */
export function parseGuest(text: string): GuestState {
  return parsed(guestSchema, text);
}

function parsed<Schema extends typeof guestSchema | typeof manifestSchema>(
  schema: Schema,
  text: string,
): v.InferOutput<Schema> {
  let file: { manifest?: Record<string, unknown> | null; sha256?: unknown } | null;
  try {
    file = JSON.parse(text) as typeof file;
  } catch (error) {
    throw invalid(`its manifest is not JSON: ${messageOf(error)}`);
  }
  const { manifest, sha256 } = file ?? {};
  if (manifest?.['format'] !== FORMAT) throw invalid('its manifest is not one of a snapshot of uffd vmm');
  if (manifest['version'] !== VERSION) {
    throw invalid(`it is of version ${String(manifest['version'])}, this program reads version ${VERSION}`);
  }
  if (sha256 !== hashOf(manifest)) throw invalid('its manifest has been changed: the hash in it is another');
  const result = v.safeParse(schema, manifest);
  if (result.success) return result.output;
  throw invalid(`its manifest is wrong: ${schemaIssue(result.issues)}`);
}

export function invalid(reason: string): UffdError {
  return new UffdError('ERR_SNAPSHOT_INVALID', `the snapshot cannot be used: ${reason}`);
}

function hashOf(manifest: object): string {
  return createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
}
