// A snapshot on disk: DIR/manifest.json, and the memory file it names. Written so that a crash leaves the old one or the
// new one: the memory first, under a name of its own, and the manifest last, by renaming it into place.
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, fstatSync, mkdirSync, openSync, readFileSync, readdirSync } from 'node:fs';
import { ftruncateSync, readSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { UffdError, messageOf } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { type FileIdentity, type Manifest, invalid, manifestText, parseManifest } from './manifest.js';

const MANIFEST = 'manifest.json';
const MEMORY = /^memory-[0-9a-f]{16}$/;
const CHUNK_BYTES = 4 * 2 ** 20;
const PAGE = 4096;

/** A snapshot that has been checked: what `restore` works from. */
export interface OpenedSnapshot {
  readonly manifest: Manifest;
  readonly memoryPath: string;
  /** Whether the memory had to be hashed: it is not the very file that was written here. */
  readonly hashed: boolean;
}

/** @throws UffdError ERR_INVALID_ARGUMENT for a folder with something else in it */
export function prepareFolder(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const others = readdirSync(folder).filter((name) => !name.startsWith(MANIFEST) && !MEMORY.test(name));
  if (others.length > 0) {
    throw new UffdError(
      'ERR_INVALID_ARGUMENT',
      `${folder} has something else in it (${others[0]!}): name another folder`,
    );
  }
}

/** Writes the memory and then the manifest; what was in the folder before is deleted at the end. */
export function writeSnapshot(
  folder: string,
  mapping: Mapping,
  rest: Omit<Manifest, 'memory'>,
): { sha256: string; writtenBytes: number } {
  prepareFolder(folder);
  const file = `memory-${randomBytes(8).toString('hex')}`;
  const { sha256, writtenBytes, identity } = writeMemory(join(folder, file), mapping);
  const manifest: Manifest = { ...rest, memory: { file, sizeBytes: mapping.lengthBytes, sha256, identity } };
  const temporary = join(folder, `${MANIFEST}.new`);
  writeFileSync(temporary, manifestText(manifest));
  syncPath(temporary);
  // The name of the memory file must be on disk before the manifest that needs it.
  syncPath(folder);
  renameSync(temporary, join(folder, MANIFEST));
  syncPath(folder);
  syncPath(dirname(resolve(folder)));
  for (const name of readdirSync(folder)) if (MEMORY.test(name) && name !== file) rmSync(join(folder, name));
  return { sha256, writtenBytes };
}

/**
 * Checks everything but, unless `verify` asks for it, the bytes of a memory file that nobody can have written to since the
 * snapshot was made: same file, same times. The memory of any other one is hashed.
 * @throws UffdError ERR_SNAPSHOT_INVALID with the reason
 */
export function openSnapshot(folder: string, options: { verify?: boolean } = {}): OpenedSnapshot {
  const manifest = parseManifest(readManifest(folder));
  const { file, sizeBytes, sha256, identity } = manifest.memory;
  if (!MEMORY.test(file)) throw invalid(`its memory file has no such name: ${file}`);
  const memoryPath = join(folder, file);
  let fd;
  try {
    fd = openSync(memoryPath, 'r');
  } catch (error) {
    throw invalid(messageOf(error));
  }
  try {
    const now = fstatSync(fd);
    if (now.size !== sizeBytes) {
      throw invalid(`its memory file has ${now.size} bytes instead of ${sizeBytes}: truncated, or half written`);
    }
    const untouched = sameFile(identity, identityOf(fd));
    const hashed = options.verify === true || !untouched;
    if (hashed && hashFile(fd, sizeBytes) !== sha256) throw invalid('its memory is corrupt: the hash is another');
    return { manifest, memoryPath, hashed };
  } finally {
    closeSync(fd);
  }
}

/** The whole memory file into a mapping. */
export function loadMemory(memoryPath: string, mapping: Mapping): void {
  const fd = openSync(memoryPath, 'r');
  try {
    forEachChunk(mapping.lengthBytes, (at, bytes) => {
      readFully(fd, Buffer.from(mapping.view(at, bytes)), at);
    });
  } finally {
    closeSync(fd);
  }
}

function readManifest(folder: string): string {
  try {
    return readFileSync(join(folder, MANIFEST), 'utf8');
  } catch (error) {
    throw invalid(`${messageOf(error)}; it was not finished, or ${folder} is not one`);
  }
}

/** Sparse: pages of zeroes stay holes. */
function writeMemory(path: string, mapping: Mapping) {
  const hash = createHash('sha256');
  const fd = openSync(path, 'wx', 0o600);
  let writtenBytes = 0;
  try {
    ftruncateSync(fd, mapping.lengthBytes);
    forEachChunk(mapping.lengthBytes, (at, bytes) => {
      const chunk = Buffer.from(mapping.view(at, bytes));
      hash.update(chunk);
      writtenBytes += writeUnlessZero(fd, chunk, at);
    });
    fsyncSync(fd);
    return { sha256: hash.digest('hex'), writtenBytes, identity: identityOf(fd) };
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
}

const zeroes = Buffer.alloc(PAGE);

/** The bytes written: runs of pages with something in them. */
function writeUnlessZero(fd: number, chunk: Buffer, at: number): number {
  let written = 0;
  const isZero = (from: number) =>
    chunk.compare(zeroes, 0, Math.min(PAGE, chunk.length - from), from, from + PAGE) === 0;
  for (let from = 0; from < chunk.length;) {
    let to = from;
    while (to < chunk.length && !isZero(to)) to += PAGE;
    for (let done = from; done < to;) done += writeSync(fd, chunk, done, to - done, at + done);
    written += to - from;
    from = to + PAGE;
  }
  return written;
}

function hashFile(fd: number, sizeBytes: number): string {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes));
  forEachChunk(sizeBytes, (at, bytes) => {
    const chunk = buffer.subarray(0, bytes);
    readFully(fd, chunk, at);
    hash.update(chunk);
  });
  return hash.digest('hex');
}

function readFully(fd: number, buffer: Buffer, at: number): void {
  for (let done = 0; done < buffer.length;) {
    const read = readSync(fd, buffer, done, buffer.length - done, at + done);
    if (read === 0) throw invalid('its memory file became shorter while it was read');
    done += read;
  }
}

function forEachChunk(sizeBytes: number, use: (at: number, bytes: number) => void): void {
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) use(at, Math.min(CHUNK_BYTES, sizeBytes - at));
}

function identityOf(fd: number): FileIdentity {
  const { dev, ino, mtimeNs, ctimeNs } = fstatSync(fd, { bigint: true });
  return { device: `${dev}`, inode: `${ino}`, mtimeNs: `${mtimeNs}`, ctimeNs: `${ctimeNs}` };
}

function sameFile(before: FileIdentity, now: FileIdentity): boolean {
  return (Object.keys(before) as (keyof FileIdentity)[]).every((key) => before[key] === now[key]);
}

function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
