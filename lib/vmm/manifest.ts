// manifest.json of a snapshot: what is in it, and the hashes that say whether it still is.
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { UffdError, messageOf } from '../errors.js';

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

const schema = v.object({
  format: v.literal(FORMAT),
  version: v.literal(VERSION),
  architecture: v.literal('x64'),
  memory: v.object({ file: v.string(), sizeBytes: unsigned, sha256: hex, identity: identitySchema }),
  work: v.object({ start: unsigned, end: unsigned, strideBytes: unsigned }),
  vcpus: v.pipe(v.array(vcpuSchema), v.minLength(1)),
});

export type Manifest = v.InferOutput<typeof schema>;
export type VcpuSnapshot = v.InferOutput<typeof vcpuSchema>;
export type FileIdentity = v.InferOutput<typeof identitySchema>;

/** The text of the file: the manifest, and the hash of it. */
export function manifestText(manifest: Manifest): string {
  return `${JSON.stringify({ manifest, sha256: hashOf(manifest) }, undefined, 2)}\n`;
}

/** @throws UffdError ERR_SNAPSHOT_INVALID with the reason */
export function parseManifest(text: string): Manifest {
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
  const parsed = v.safeParse(schema, manifest);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw invalid(`its manifest is wrong: ${v.getDotPath(issue) ?? 'the whole'}: ${issue.message}`);
}

export function invalid(reason: string): UffdError {
  return new UffdError('ERR_SNAPSHOT_INVALID', `the snapshot cannot be used: ${reason}`);
}

function hashOf(manifest: object): string {
  return createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
}
