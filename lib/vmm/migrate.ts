// The source of a migration: sends the state of the guest, then its memory, as the destination asks for it.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type Socket, createConnection } from 'node:net';
import { UffdError } from '../errors.js';
import { manifestText } from './manifest.js';
import { type Frame, FrameKind, MOST_PAYLOAD, onFrames, sendFrame } from './migration-wire.js';
import type { OpenedSnapshot } from './snapshot.js';

export interface MigrateReport {
  readonly pages: number;
  readonly pagesSent: number;
  /** Pages that were asked for a second time: none. */
  readonly pagesSentTwice: number;
  readonly durationMs: number;
}

const PAGE = 4096;

/**
 * Resolves when the destination has all it needs.
 * @throws UffdError ERR_SERVER_GONE when it goes before, ERR_SOURCE_CHANGED when the memory file is written to meanwhile
 */
export async function migrateGuest(options: {
  readonly snapshot: OpenedSnapshot;
  /** Where `uffd vmm receive` listens. */
  readonly to: string;
  readonly signal: AbortSignal;
}): Promise<MigrateReport> {
  const { snapshot, to, signal } = options;
  const began = performance.now();
  const memory = new SentMemory(snapshot);
  const socket = createConnection(to);
  try {
    await serveReads(socket, memory, manifestText(snapshot.manifest), signal);
    return { ...memory.counts(), durationMs: performance.now() - began };
  } finally {
    socket.destroy();
    memory.close();
  }
}

function serveReads(socket: Socket, memory: SentMemory, state: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => {
      reject(signal.reason as Error);
    });
    socket.on('error', reject);
    socket.on('close', () => {
      reject(new UffdError('ERR_SERVER_GONE', 'the destination has gone before it had all pages'));
    });
    onFrames(socket, (frame) => {
      if (frame.kind === FrameKind.done) resolve();
      else sendFrame(socket, FrameKind.bytes, frame.offset, 0, memory.read(frame));
    });
    sendFrame(socket, FrameKind.state, 0, 0, Buffer.from(state));
  });
}

/** The memory file, and which of its pages have been sent. */
class SentMemory {
  readonly #fd: number;
  readonly #sizeBytes: number;
  readonly #ctimeNs: string;
  readonly #sent: Uint8Array;

  constructor({ memoryPath, manifest }: OpenedSnapshot) {
    this.#fd = openSync(memoryPath, 'r');
    this.#sizeBytes = manifest.memory.sizeBytes;
    this.#ctimeNs = this.#changed();
    this.#sent = new Uint8Array(this.#sizeBytes / PAGE);
  }

  read({ kind, offset, length }: Frame): Buffer {
    const whole = offset % PAGE === 0 && length % PAGE === 0 && length > 0 && length <= MOST_PAYLOAD;
    if (kind !== FrameKind.read || !whole || offset + length > this.#sizeBytes) {
      throw new UffdError('ERR_HANDOFF_REFUSED', 'the destination asks for what is no memory of the guest');
    }
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length;) {
      const read = readSync(this.#fd, bytes, done, length - done, offset + done);
      if (read === 0) break;
      done += read;
    }
    // After reading: what a writer did meanwhile is not sent.
    if (this.#changed() !== this.#ctimeNs) {
      throw new UffdError('ERR_SOURCE_CHANGED', 'the memory file was written to in the middle of the migration');
    }
    for (let page = offset / PAGE; page < (offset + length) / PAGE; page++) this.#sent[page]!++;
    return bytes;
  }

  counts() {
    const count = (test: (times: number) => boolean) =>
      this.#sent.reduce((sum, times) => sum + (test(times) ? 1 : 0), 0);
    return {
      pages: this.#sent.length,
      pagesSent: count((times) => times > 0),
      pagesSentTwice: count((times) => times > 1),
    };
  }

  close(): void {
    closeSync(this.#fd);
  }

  #changed(): string {
    const { ctimeNs, size } = fstatSync(this.#fd, { bigint: true });
    return `${ctimeNs} ${size}`;
  }
}
