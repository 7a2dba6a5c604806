// The source of a migration: sends the state of a guest that stands, then its memory, as the destination asks for it.
import { addAbortListener, once } from 'node:events';
import { type Socket, createConnection } from 'node:net';
import { UffdError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { type GuestState, manifestText } from './manifest.js';
import type { MemoryFile } from './memory-file.js';
import { type Frame, FrameKind, MOST_PAYLOAD, onFrames, sendFrame } from './migration-wire.js';

export interface MigrateReport {
  readonly pages: number;
  readonly pagesSent: number;
  /** Pages that were asked for a second time: none. */
  readonly pagesSentTwice: number;
  readonly durationMs: number;
}

const PAGE = 4096;

/** The memory of a guest that stands. */
export interface StandingMemory {
  read(offset: number, lengthBytes: number): Uint8Array;
}

/** Where the guest goes: before there is one to lose. @throws the error of connect(2) */
export async function connectDestination(path: string): Promise<Socket> {
  const socket = createConnection(path);
  await once(socket, 'connect');
  // Whoever is at it then hears of it; until then nobody is.
  socket.on('error', () => undefined);
  return socket;
}

/**
 * Resolves when the destination has all it needs.
 * @param options.to where `uffd vmm receive` listens; it is destroyed at the end
 * @throws UffdError ERR_SERVER_GONE when it goes before, ERR_SOURCE_CHANGED when the memory file is written to meanwhile
 */
export async function migrateGuest(options: {
  readonly guest: GuestState;
  readonly memory: StandingMemory;
  readonly to: Socket;
  readonly signal: AbortSignal;
}): Promise<MigrateReport> {
  const { guest, to, signal } = options;
  const began = performance.now();
  const memory = new SentMemory(options.memory, guest.memory.sizeBytes);
  try {
    await serveReads(to, memory, manifestText(guest), signal);
    return { ...memory.counts(), durationMs: performance.now() - began };
  } finally {
    to.destroy();
  }
}

/** Of a guest in this process. */
export function mappedMemory(mapping: Mapping): StandingMemory {
  return { read: (offset, lengthBytes) => new Uint8Array(mapping.view(offset, lengthBytes)) };
}

/** Of a snapshot. */
export function snapshotMemory(file: MemoryFile): StandingMemory {
  return {
    read(offset, lengthBytes) {
      const bytes = Buffer.allocUnsafe(lengthBytes);
      file.read(bytes, offset);
      return bytes;
    },
  };
}

async function serveReads(socket: Socket, memory: SentMemory, state: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const gone = new UffdError('ERR_SERVER_GONE', 'the destination has gone before it had all pages');
  if (socket.destroyed) throw gone;
  let listener: Disposable | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      listener = addAbortListener(signal, () => {
        reject(signal.reason as Error);
      });
      socket.on('error', (error) => {
        // What it has done wrong, or only that it is not there.
        reject(error instanceof UffdError ? error : gone);
      });
      socket.on('close', () => {
        reject(gone);
      });
      onFrames(socket, (frame) => {
        if (frame.kind === FrameKind.done) resolve();
        else sendFrame(socket, FrameKind.bytes, frame.offset, 0, memory.read(frame));
      });
      sendFrame(socket, FrameKind.state, 0, 0, Buffer.from(state));
    });
  } finally {
    listener?.[Symbol.dispose]();
  }
}

/** The memory, and which of its pages have been sent. */
class SentMemory {
  readonly #memory: StandingMemory;
  readonly #sizeBytes: number;
  readonly #sent: Uint8Array;

  constructor(memory: StandingMemory, sizeBytes: number) {
    this.#memory = memory;
    this.#sizeBytes = sizeBytes;
    this.#sent = new Uint8Array(sizeBytes / PAGE);
  }

  read({ kind, offset, length }: Frame): Uint8Array {
    const whole = offset % PAGE === 0 && length % PAGE === 0 && length > 0 && length <= MOST_PAYLOAD;
    if (kind !== FrameKind.read || !whole || offset + length > this.#sizeBytes) {
      throw new UffdError('ERR_HANDOFF_REFUSED', 'the destination asks for what is no memory of the guest');
    }
    const bytes = this.#memory.read(offset, length);
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
}
