// A working set in a file: JSON, bound to the snapshot it was recorded of. From outside, so checked as a whole.
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import * as v from 'valibot';
import { UffdError } from '../errors.js';
import { schemaIssue } from '../schema-issue.js';
import type { WorkingSet } from '../server/working-set.js';
import type { SnapshotDigest } from './digest.js';

export interface RecordedWorkingSet {
  readonly snapshot: SnapshotDigest;
  readonly workingSet: WorkingSet;
}

const FORMAT = 'uffd-working-set-1';
const MAX_FILE_BYTES = 256 * 2 ** 20;

const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const decimal = v.pipe(v.string(), v.regex(/^\d{1,20}$/));
const schema = v.object({
  format: v.literal(FORMAT),
  snapshot: v.object({
    sizeBytes: whole,
    sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
    file: v.object({ device: decimal, inode: decimal, mtimeNs: decimal, ctimeNs: decimal }),
  }),
  pageSize: v.pipe(
    whole,
    v.check((size) => size > 0 && Number.isInteger(Math.log2(size)), 'must be a power of two'),
  ),
  /** First page and number of pages, one after the other. */
  extents: v.array(whole),
});

function refusal(path: string, reason: string): UffdError {
  return new UffdError('ERR_RECORD_REFUSED', `${path}: ${reason}`);
}

/** @throws UffdError ERR_RECORD_REFUSED when it is not what `writeWorkingSet` writes; the errors of node:fs */
export function readWorkingSet(path: string): RecordedWorkingSet {
  if (statSync(path).size > MAX_FILE_BYTES) throw refusal(path, 'is no working set: it is too long for one');
  return parseWorkingSet(readFileSync(path, 'utf8'), path);
}

/** @throws UffdError ERR_RECORD_REFUSED */
export function parseWorkingSet(text: string, path: string): RecordedWorkingSet {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw refusal(path, 'is no working set: it is not JSON');
  }
  const parsed = v.safeParse(schema, json);
  if (!parsed.success) throw refusal(path, `is no working set: ${schemaIssue(parsed.issues)}`);
  const { snapshot, pageSize, extents } = parsed.output;
  const problem = extentsProblem(extents, Math.ceil(snapshot.sizeBytes / pageSize));
  if (problem !== undefined) throw refusal(path, `is no working set: ${problem}`);
  return { snapshot, workingSet: { pageSize, extents: Float64Array.from(extents) } };
}

function extentsProblem(extents: readonly number[], pages: number): string | undefined {
  if (extents.length % 2 !== 0) return 'its last extent has no length';
  let end = 0;
  for (let i = 0; i < extents.length; i += 2) {
    const [first, count] = [extents[i]!, extents[i + 1]!];
    if (count === 0 || first < end) return `extent ${i / 2} is empty, or not after the one before`;
    end = first + count;
  }
  return end > pages ? `its last extent ends after the snapshot, which has ${pages} pages` : undefined;
}

/** @throws UffdError ERR_RECORD_REFUSED with the reason, unless it was recorded of that very snapshot */
export function checkBelongs(path: string, recorded: RecordedWorkingSet, snapshot: SnapshotDigest): void {
  checkSize(path, recorded, snapshot.sizeBytes);
  const { sha256 } = recorded.snapshot;
  if (sha256 !== snapshot.sha256) {
    const reason = `recorded of another snapshot (SHA-256 ${sha256}, this one has ${snapshot.sha256})`;
    throw refusal(path, `${reason}: record it again`);
  }
}

/** As much of that as is known without reading the snapshot. @throws UffdError ERR_RECORD_REFUSED */
export function checkSize(path: string, { snapshot: { sizeBytes } }: RecordedWorkingSet, actualBytes: number): void {
  if (sizeBytes === actualBytes) return;
  const reason = `recorded of a snapshot of ${sizeBytes} bytes, this one has ${actualBytes}`;
  throw refusal(path, `${reason}: record it again`);
}

/** Replaces the file as a whole: whoever reads it sees the old one or the new one. */
export function writeWorkingSet(path: string, { snapshot, workingSet }: RecordedWorkingSet): void {
  const { pageSize, extents } = workingSet;
  const unfinished = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(unfinished, `${JSON.stringify({ format: FORMAT, snapshot, pageSize, extents: [...extents] })}\n`);
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}
