// What a snapshot file is, in a form that another run or another host can compare: its SHA-256, and by which marks it is
// known again without reading all of it.
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { UffdError } from '../errors.js';

/** As decimal text: JSON has no number for a time in nanoseconds. */
export interface FileMarks {
  readonly device: string;
  readonly inode: string;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
}

export interface SnapshotDigest {
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly file: FileMarks;
}

const BLOCK_BYTES = 4 * 2 ** 20;

/**
 * The digest of a file. Reads all of it, unless it is the very file, unchanged, that one of `known` was made of.
 * @throws UffdError ERR_SOURCE_CHANGED when it changes meanwhile
 */
export async function digestOf(path: string, known: readonly SnapshotDigest[] = []): Promise<SnapshotDigest> {
  await using file = await open(path);
  const marksNow = async () => {
    const { size, dev, ino, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
    const marks = { device: `${dev}`, inode: `${ino}`, mtimeNs: `${mtimeNs}`, ctimeNs: `${ctimeNs}` };
    return { sizeBytes: Number(size), file: marks };
  };
  const before = await marksNow();
  const same = known.find((one) => one.sizeBytes === before.sizeBytes && sameFile(one.file, before.file));
  if (same !== undefined) return same;
  const hash = createHash('sha256');
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  for (let at = 0; at < before.sizeBytes;) {
    const { bytesRead } = await file.read(block, 0, BLOCK_BYTES, at);
    if (bytesRead === 0) break;
    hash.update(block.subarray(0, bytesRead));
    at += bytesRead;
  }
  const after = await marksNow();
  if (after.sizeBytes !== before.sizeBytes || !sameFile(after.file, before.file)) {
    throw new UffdError('ERR_SOURCE_CHANGED', `${path} changed while its SHA-256 was computed`);
  }
  return { ...before, sha256: hash.digest('hex') };
}

function sameFile(one: FileMarks, other: FileMarks): boolean {
  return (
    one.device === other.device &&
    one.inode === other.inode &&
    one.mtimeNs === other.mtimeNs &&
    one.ctimeNs === other.ctimeNs
  );
}
