// The destination of a migration: the guest goes on as soon as its state is there. What it touches is pulled first, the
// rest streams behind it, and no page comes twice.
import { addAbortListener } from 'node:events';
import { lstatSync } from 'node:fs';
import { type Socket, createServer } from 'node:net';
import { UffdError } from '../errors.js';
import { Kvm } from '../kvm/kvm.js';
import { FaultServer } from '../server/fault-server.js';
import type { PageSource } from '../server/page-source.js';
import { objectSource } from '../sources/user.js';
import { listenAt, removeSocket } from '../transports/socket-path.js';
import { type GuestWaits, Machine } from './machine.js';
import { type GuestState, parseGuest } from './manifest.js';
import { GuestMemory } from './memory-kind.js';
import { type Frame, FrameKind, onFrames, sendFrame } from './migration-wire.js';
import { ClosingVm, ServedMemory, putVcpus, runServed } from './served-guest.js';

export interface ReceiveOptions {
  /** The socket; a stale one is replaced. */
  readonly listen: string;
  readonly onListening: () => void;
  readonly onSerial: (text: string) => void;
  readonly signal: AbortSignal;
}

export interface ReceiveReport extends GuestWaits {
  readonly vcpus: number;
  readonly memoryBytes: number;
  /** From the first word of the source to the first KVM_RUN. */
  readonly toFirstRunMs: number;
  readonly toChecksumMs: number;
  /** From the first KVM_RUN until the last page was there. */
  readonly toCompleteMs: number;
}

const STATE_MS = 10_000;
const STREAM_MS = 2 ** 31 - 1;
/** How long the source may take to hear that it is done. */
const CLOSE_MS = 2000;
/** What is asked for at once behind demand; up to three of these are on their way before what a vCPU waits for. */
const STREAM_BYTES = 512 * 1024;

/**
 * Waits for one guest, runs it to its end, and lets the source go when it has all of its memory.
 * @throws UffdError ERR_SERVER_GONE when the source goes before: the guest is stopped then, and has read no zeroes
 */
export async function receiveGuest(options: ReceiveOptions): Promise<ReceiveReport> {
  // What is not to be had here is said before a guest is taken: it would have no other place to be.
  using kvm = Kvm.open();
  using served = new ServedMemory();
  served.open();
  const socket = await acceptOne(options);
  const began = performance.now();
  const source = new RemoteMemory(socket);
  try {
    const guest = await untilAborted(options.signal, source.state());
    const report = await runReceived({ kvm, served, source, guest, began }, options);
    sendFrame(socket, FrameKind.done);
    socket.end();
    return report;
  } finally {
    // A source that does not read is not waited for.
    setTimeout(() => socket.destroy(), socket.writableEnded ? CLOSE_MS : 0).unref();
  }
}

interface Received {
  readonly kvm: Kvm;
  readonly served: ServedMemory;
  readonly source: RemoteMemory;
  readonly guest: GuestState;
  readonly began: number;
}

async function runReceived(
  { kvm, served, source, guest, began }: Received,
  { onSerial, signal }: ReceiveOptions,
): Promise<ReceiveReport> {
  const { sizeBytes } = guest.memory;
  const pages = { ...objectSource(source, { sizeBytes }), backgroundBytes: STREAM_BYTES };
  await using server = await FaultServer.start({ source: pages, workers: 1 });
  const gone = Promise.race([source.gone, new Promise<never>((_, reject) => server.on('error', reject))]);
  gone.catch(() => undefined);
  await using closing = new ClosingVm(kvm.createVm(), served);
  const { vm } = closing;
  using memory = GuestMemory.memfd(sizeBytes);
  await served.attach(server, memory, gone);
  vm.setMemory(memory.slot());
  const machine = new Machine(kvm, vm, { vcpus: guest.vcpus.length, onSerial });
  putVcpus(machine, guest);
  const firstRun = performance.now();
  // Fills what is absent, faults before the rest.
  const complete = server.drain(STREAM_MS).then(() => performance.now());
  complete.catch(() => undefined);
  await runServed(machine, served, signal);
  const checksum = performance.now();
  const completed = await untilAborted(signal, Promise.race([complete, gone]));
  return {
    vcpus: machine.vcpus.length,
    memoryBytes: sizeBytes,
    toFirstRunMs: firstRun - began,
    toChecksumMs: checksum - firstRun,
    toCompleteMs: completed - firstRun,
    ...machine.waits(),
  };
}

/** Rejects with the reason of the signal when that comes first. */
async function untilAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  signal.throwIfAborted();
  let listener: Disposable | undefined;
  const aborted = new Promise<never>((_, reject) => {
    listener = addAbortListener(signal, () => {
      reject(signal.reason as Error);
    });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    listener?.[Symbol.dispose]();
  }
}

/** The first connection that says something: one that only looks whether somebody listens is not a source. */
async function acceptOne({ listen, onListening, signal }: ReceiveOptions): Promise<Socket> {
  const fd = listenAt(listen, false);
  const { ino } = lstatSync(listen, { bigint: true });
  const silent = new Set<Socket>();
  const server = createServer();
  try {
    const accepted = new Promise<Socket>((resolve, reject) => {
      server.on('error', reject);
      server.on('connection', (socket) => {
        silent.add(socket);
        socket.on('error', () => undefined);
        socket.once('close', () => silent.delete(socket));
        socket.once('data', (chunk) => {
          silent.delete(socket);
          socket.pause();
          socket.unshift(chunk);
          resolve(socket);
        });
      });
    });
    server.listen({ fd });
    onListening();
    return await untilAborted(signal, accepted);
  } finally {
    for (const socket of silent) socket.destroy();
    server.close();
    removeSocket(listen, ino);
  }
}

interface Wanted {
  readonly target: Uint8Array;
  readonly targetOffset: number;
  readonly length: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The memory of the guest at the source, read over the connection. */
class RemoteMemory implements PageSource {
  readonly #socket: Socket;
  readonly #wanted = new Map<number, Wanted>();
  readonly #state: Promise<GuestState>;
  /** Rejects when the source has gone, or says what it must not. */
  readonly gone: Promise<never>;

  constructor(socket: Socket) {
    this.#socket = socket;
    let reject: (error: Error) => void = () => undefined;
    this.gone = new Promise<never>((_, no) => (reject = no));
    this.gone.catch(() => undefined);
    const failed = (error?: Error) => {
      const why = error?.message ?? 'the connection has ended';
      // What it said that was wrong has a code of its own.
      const code = error instanceof UffdError ? error.code : 'ERR_SERVER_GONE';
      const lost = new UffdError(code, `the source of the guest is gone: ${why}`);
      reject(lost);
      for (const { reject: refuse } of this.#wanted.values()) refuse(lost);
      this.#wanted.clear();
    };
    socket.on('error', failed);
    socket.on('close', () => {
      failed();
    });
    this.#state = new Promise((resolve) => {
      onFrames(socket, (frame) => {
        if (frame.kind === FrameKind.state) resolve(parseGuest(frame.payload.toString('utf8')));
        else this.#take(frame);
      });
    });
  }

  async state(): Promise<GuestState> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new UffdError('ERR_HANDOFF_REFUSED', `the source sent no guest within ${STATE_MS / 1000} s`);
      timer = setTimeout(reject, STATE_MS, error);
    });
    try {
      return await Promise.race([this.#state, this.gone, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  read(target: Uint8Array, targetOffset: number, length: number, offset: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new UffdError('ERR_SERVER_GONE', 'the source of the guest is gone'));
        return;
      }
      this.#wanted.set(offset, { target, targetOffset, length, resolve, reject });
      sendFrame(this.#socket, FrameKind.read, offset, length);
    });
  }

  #take({ kind, offset, payload }: Frame): void {
    const wanted = this.#wanted.get(offset);
    if (kind !== FrameKind.bytes || wanted?.length !== payload.length) {
      throw new UffdError('ERR_HANDOFF_REFUSED', 'it sent what was not asked for');
    }
    this.#wanted.delete(offset);
    wanted.target.set(payload, wanted.targetOffset);
    wanted.resolve();
  }
}
