// The file that restores read: written to the temporary folder and unlinked at once, so that nothing is left of it
// however the run ends.
import { closeSync, fsyncSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pageSize } from '../memory/page-size.js';

const CHUNK_BYTES = 2 ** 20;

export class Snapshot implements Disposable {
  readonly fd: number;
  readonly sizeBytes: number;

  /** Every page has bytes of its own. */
  constructor(sizeBytes: number) {
    const folder = mkdtempSync(join(tmpdir(), 'uffd-bench-'));
    this.sizeBytes = sizeBytes;
    let writer: number;
    try {
      writer = openSync(join(folder, 'snapshot'), 'wx', 0o600);
    } finally {
      rmSync(folder, { recursive: true });
    }
    try {
      this.#write(writer);
      // Nobody has a snapshot open for writing that is served: the server could not take its lease.
      this.fd = openSync(`/proc/self/fd/${writer}`, 'r');
    } finally {
      closeSync(writer);
    }
  }

  /** Opens the file although it has no name, in other processes too. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.fd}`;
  }

  read(offset: number, lengthBytes: number): Buffer {
    const bytes = Buffer.alloc(lengthBytes);
    readSync(this.fd, bytes, 0, lengthBytes, offset);
    return bytes;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }

  #write(fd: number): void {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    for (let i = 0; i < chunk.length; i++) chunk[i] = 1 + ((i * 167) % 251);
    for (let at = 0; at < this.sizeBytes; at += CHUNK_BYTES) {
      for (let page = 0; page < CHUNK_BYTES; page += pageSize()) chunk.writeDoubleLE(at + page, page);
      writeSync(fd, chunk, 0, Math.min(CHUNK_BYTES, this.sizeBytes - at), at);
    }
    // Written back now, not in the middle of a measurement.
    fsyncSync(fd);
  }
}
