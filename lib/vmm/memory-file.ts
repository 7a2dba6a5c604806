// The memory file of a snapshot: how it is known again, hashed, and read without a mixture of two contents.
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { UffdError } from '../errors.js';
import { type FileIdentity, invalid } from './manifest.js';

/** As much is read, or written, before the event loop is looked at. */
export const CHUNK_BYTES = 4 * 2 ** 20;

/** A file that nobody has written to since it was checked. */
export interface CheckedFile {
  readonly memoryPath: string;
  readonly identity: FileIdentity;
}

/** Reads a memory file; fails rather than give what was written after it had been checked. */
export class MemoryFile implements Disposable {
  readonly #fd: number;
  readonly #identity: FileIdentity;

  /** @throws UffdError ERR_SOURCE_CHANGED */
  constructor({ memoryPath, identity }: CheckedFile) {
    this.#fd = openSync(memoryPath, 'r');
    this.#identity = identity;
  }

  /** @throws UffdError ERR_SOURCE_CHANGED */
  read(bytes: Buffer, offset: number): void {
    readFully(this.#fd, bytes, offset);
    // After reading: what a writer did meanwhile is not shown to anybody.
    if (!sameFile(identityOf(this.#fd), this.#identity)) throw changed();
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** For what somebody else has opened by its name. @throws UffdError ERR_SOURCE_CHANGED */
export function checkUnchanged({ memoryPath, identity }: CheckedFile): void {
  if (!sameFile(identityAt(memoryPath), identity)) throw changed();
}

function changed(): UffdError {
  return new UffdError(
    'ERR_SOURCE_CHANGED',
    'the memory file of the snapshot was written to after it had been checked',
  );
}

export async function hashFile(fd: number, sizeBytes: number, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes));
  await forEachChunk(sizeBytes, signal, (at, bytes) => {
    const chunk = buffer.subarray(0, bytes);
    readFully(fd, chunk, at);
    hash.update(chunk);
  });
  return hash.digest('hex');
}

/** Lets the event loop, and with it a signal, come between one chunk and the next. */
export async function forEachChunk(
  sizeBytes: number,
  signal: AbortSignal | undefined,
  use: (at: number, bytes: number) => void,
): Promise<void> {
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
    use(at, Math.min(CHUNK_BYTES, sizeBytes - at));
    await setImmediate();
    signal?.throwIfAborted();
  }
}

export function identityOf(fd: number): FileIdentity {
  return identity(fstatSync(fd, { bigint: true }));
}

function identityAt(path: string): FileIdentity {
  return identity(statSync(path, { bigint: true }));
}

function identity({ dev, ino, mtimeNs, ctimeNs }: Record<'dev' | 'ino' | 'mtimeNs' | 'ctimeNs', bigint>): FileIdentity {
  return { device: `${dev}`, inode: `${ino}`, mtimeNs: `${mtimeNs}`, ctimeNs: `${ctimeNs}` };
}

export function sameFile(one: FileIdentity, other: FileIdentity): boolean {
  return (Object.keys(one) as (keyof FileIdentity)[]).every((key) => one[key] === other[key]);
}

function readFully(fd: number, buffer: Buffer, at: number): void {
  for (let done = 0; done < buffer.length;) {
    const read = readSync(fd, buffer, done, buffer.length - done, at + done);
    if (read === 0) throw invalid('its memory file became shorter while it was read');
    done += read;
  }
}
