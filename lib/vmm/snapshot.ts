// A snapshot on disk: DIR/manifest.json, and the memory file it names. Written so that a crash leaves the old one or the
// new one: the memory first, under a name of its own, and the manifest last, by renaming it into place.
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { UffdError, messageOf } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { type Manifest, invalid, manifestText, parseManifest } from './manifest.js';
import { type CheckedFile, MemoryFile, forEachChunk, hashFile, identityOf, sameFile } from './memory-file.js';

const MANIFEST = 'manifest.json';
const MEMORY = /^memory-[0-9a-f]{16}$/;
const PAGE = 4096;

/** A snapshot that has been checked: what `restore` works from. */
export interface OpenedSnapshot extends CheckedFile {
  readonly manifest: Manifest;
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

/** Writes the memory and then the manifest; what was in the folder before is deleted at the end, and stays on an error. */
export async function writeSnapshot(
  folder: string,
  mapping: Mapping,
  rest: Omit<Manifest, 'memory'>,
  signal?: AbortSignal,
): Promise<{ sha256: string; writtenBytes: number }> {
  prepareFolder(folder);
  const file = `memory-${randomBytes(8).toString('hex')}`;
  const manifest = join(folder, `${MANIFEST}.new`);
  let written;
  try {
    written = await writeMemory(join(folder, file), mapping, signal);
    const { sha256, identity } = written;
    const whole: Manifest = { ...rest, memory: { file, sizeBytes: mapping.lengthBytes, sha256, identity } };
    writeFileSync(manifest, manifestText(whole));
    syncPath(manifest);
  } catch (error) {
    for (const path of [manifest, join(folder, file)]) rmSync(path, { force: true });
    throw error;
  }
  // The name of the memory file must be on disk before the manifest that needs it.
  syncPath(folder);
  renameSync(manifest, join(folder, MANIFEST));
  syncPath(folder);
  syncPath(dirname(resolve(folder)));
  for (const name of readdirSync(folder)) if (MEMORY.test(name) && name !== file) rmSync(join(folder, name));
  return { sha256: written.sha256, writtenBytes: written.writtenBytes };
}

/**
 * Checks everything but, unless `verify` asks for it, the bytes of a memory file that nobody can have written to since the
 * snapshot was made: same file, same times. The memory of any other one is hashed.
 * @throws UffdError ERR_SNAPSHOT_INVALID with the reason
 */
export async function openSnapshot(
  folder: string,
  options: { verify?: boolean; signal?: AbortSignal } = {},
): Promise<OpenedSnapshot> {
  const manifest = parseManifest(readManifest(folder));
  const { file, sizeBytes, sha256, identity: written } = manifest.memory;
  if (!MEMORY.test(file)) throw invalid(`its memory file has no such name: ${file}`);
  const memoryPath = join(folder, file);
  let fd;
  try {
    fd = openSync(memoryPath, 'r');
  } catch (error) {
    throw invalid(messageOf(error));
  }
  try {
    const { size } = fstatSync(fd);
    if (size !== sizeBytes) {
      throw invalid(`its memory file has ${size} bytes instead of ${sizeBytes}: truncated, or half written`);
    }
    // Before hashing: what is written from here on changes it.
    const identity = identityOf(fd);
    const hashed = options.verify === true || !sameFile(written, identity);
    if (hashed && (await hashFile(fd, sizeBytes, options.signal)) !== sha256)
      throw invalid('its memory is corrupt: the hash is another');
    return { manifest, memoryPath, identity, hashed };
  } finally {
    closeSync(fd);
  }
}

/** The whole memory file into a mapping. @throws UffdError ERR_SOURCE_CHANGED */
export async function loadMemory(snapshot: CheckedFile, mapping: Mapping, signal?: AbortSignal): Promise<void> {
  using file = new MemoryFile(snapshot);
  await forEachChunk(mapping.lengthBytes, signal, (at, bytes) => {
    file.read(Buffer.from(mapping.view(at, bytes)), at);
  });
}

function readManifest(folder: string): string {
  try {
    return readFileSync(join(folder, MANIFEST), 'utf8');
  } catch (error) {
    throw invalid(`${messageOf(error)}; it was not finished, or ${folder} is not one`);
  }
}

/** Sparse: pages of zeroes stay holes. */
async function writeMemory(path: string, mapping: Mapping, signal: AbortSignal | undefined) {
  const hash = createHash('sha256');
  const fd = openSync(path, 'wx', 0o600);
  let writtenBytes = 0;
  try {
    ftruncateSync(fd, mapping.lengthBytes);
    await forEachChunk(mapping.lengthBytes, signal, (at, bytes) => {
      const chunk = Buffer.from(mapping.view(at, bytes));
      hash.update(chunk);
      writtenBytes += writeUnlessZero(fd, chunk, at);
    });
    fsyncSync(fd);
    return { sha256: hash.digest('hex'), writtenBytes, identity: identityOf(fd) };
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

function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
