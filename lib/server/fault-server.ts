// The fault server: sessions come and go, serving workers answer, this thread only keeps the books.
import { EventEmitter } from 'node:events';
import { UffdError, checked, messageOf } from '../errors.js';
import { type FillWay, memoryKinds } from '../memory/kinds.js';
import type { Memfd } from '../memory/memfd.js';
import { native } from '../native/load.js';
import type { Userfaultfd } from '../userfaultfd/userfaultfd.js';
import { FetchPool } from './fetch-pool.js';
import { MAX_FILL_BYTES } from './page-filler.js';
import type {
  AttachMessage,
  FailurePolicy,
  FromServing,
  ServingOptions,
  SessionStats,
  SessionSummary,
} from './messages.js';
import { type ModuleReference, type SourceSpec, portable } from './page-source.js';
import { WorkerHandle } from './worker-handle.js';

export interface FaultServerOptions {
  /** Where the bytes come from: `fileSource`, `moduleSource` or `objectSource`. */
  readonly source: SourceSpec;
  /** Serving threads; a session belongs to one of them. Default 2. */
  readonly workers?: number;
  /** How absent pages are filled; `auto` is the measured best for the memory kind. Default `auto`. */
  readonly fill?: FillWay | 'auto';
  /** Pages brought along with a fault: an aligned window of so many. Default 64. */
  readonly faultAround?: number;
  /** A module of yours that decides instead; it exports `createPolicy(data): FaultPolicy`. */
  readonly policy?: ModuleReference;
  /** How long a fault may go unanswered, in milliseconds, before `onFailure` acts. Default 10,000. */
  readonly faultDeadlineMs?: number;
  /** `poison` the page (Linux 6.6; fatal for whoever touches it), `kill` the client, or let it `stall`. Default `poison`. */
  readonly onFailure?: FailurePolicy;
  /** Microseconds a worker polls before it sleeps. Costs a CPU, saves the wake-up across CPUs. Default 0. */
  readonly spinUs?: number;
  /** CPUs the serving workers may run on. Default: any. */
  readonly cpus?: readonly number[];
  /** Where the numbers of sessions come from: one for several servers makes a number mean one session. */
  readonly numbers?: { next: number };
}

/** Memory to be served. Of objects the server takes duplicates; plain descriptors are its own from the call on. */
export interface Attachment {
  readonly userfaultfd: Userfaultfd | number;
  /** The memfd behind the regions, sealed against shrinking; none for anonymous memory, or when it must not be written. */
  readonly memory?: Memfd | number;
  readonly kind: keyof typeof memoryKinds;
  readonly pageSize: number;
  /** `start` is the address in the client; `offset` the one in the source and in the memory. All in bytes. */
  readonly regions: readonly { readonly start: bigint; readonly size: number; readonly offset: number }[];
  /** All pages hold their content already: MINOR faults are answered, nothing is fetched. Default false. */
  readonly resident?: boolean;
  /** The client's process, for `onFailure: 'kill'`; stays the caller's. */
  readonly pidfd?: number;
}

export interface ServerEvents {
  attached: [session: number];
  /** A session is over: its process is gone, it was drained, or released. */
  detached: [session: number, why: 'gone' | 'drained' | 'released', stats: SessionSummary];
  /** Nothing more of the session is answered; the policy acts on each fault at its deadline. */
  parked: [session: number, reason: string];
  /** A fault went unanswered to its deadline, and this was done. `page` is -1 where it is no page of a region. */
  unserved: [session: number, action: FailurePolicy, page: number, reason: string];
  /** The source can no longer be trusted: pages that are absent stay so. */
  'source-failed': [reason: string];
  /** The server has been closed; sessions it still had are served by nobody. */
  close: [];
  /** A worker ended unexpectedly: its sessions are served by nobody. Without a listener this is an uncaught exception. */
  error: [Error];
}

interface Attached {
  readonly worker: WorkerHandle;
  readonly pidfd: number;
  readonly settled: { resolve: () => void; reject: (error: Error) => void };
}

const SIGKILL = 9;

/** Serves page faults in worker threads. `await FaultServer.start(...)`, then `attach` or a listener of transports. */
export class FaultServer extends EventEmitter<ServerEvents> implements AsyncDisposable {
  readonly source: SourceSpec;
  readonly fill: FillWay | 'auto';
  readonly #workers: WorkerHandle[] = [];
  readonly #fetchPool: FetchPool;
  readonly #sessions = new Map<number, Attached>();
  readonly #statsRequests = new Map<number, (stats: readonly SessionStats[]) => void>();
  readonly #numbers: { next: number };
  #nextRequest = 1;
  #closing: Promise<void> | undefined;

  private constructor(options: FaultServerOptions, workers: number) {
    super();
    this.source = options.source;
    this.fill = options.fill ?? 'auto';
    this.#numbers = options.numbers ?? { next: 1 };
    // A listener of transports each has its own.
    this.setMaxListeners(0);
    this.#fetchPool = new FetchPool(options.source, workers, (error) => {
      this.#workerFailed(error);
    });
  }

  /** @throws UffdError ERR_OUT_OF_RANGE, ERR_WORKER_FAILED */
  static async start(options: FaultServerOptions): Promise<FaultServer> {
    const { workers = 2, faultAround = 64, faultDeadlineMs = 10_000, spinUs = 0 } = options;
    inRange('workers', workers, 1, 64);
    inRange('faultAround', faultAround, 1, 2 ** 20);
    inRange('faultDeadlineMs', faultDeadlineMs, 0, 2 ** 31);
    inRange('spinUs', spinUs, 0, 1_000_000);
    const { source, policy } = options;
    oneOf('fill', options.fill, ['auto', 'copy', 'continue']);
    oneOf('onFailure', options.onFailure, ['poison', 'kill', 'stall']);
    if (policy !== undefined && !(policy.module instanceof URL) && typeof policy.module !== 'string') {
      throw new UffdError('ERR_INVALID_ARGUMENT', 'policy is a module: { module: new URL(...), data }');
    }
    const server = new FaultServer(options, workers);
    const serving: ServingOptions = {
      sourceSizeBytes: source.sizeBytes,
      ...(source.module !== undefined && source.runsIn !== 'fetching' && { source: portable(source.module) }),
      ...(policy !== undefined && { policy: portable(policy) }),
      faultAround,
      faultDeadlineMs,
      onFailure: options.onFailure ?? 'poison',
      spinUs,
      cpus: options.cpus ?? [],
      fetchesAsked: server.#fetchPool.asked,
    };
    try {
      for (const ports of server.#fetchPool.portsOfServing) {
        server.#adopt(await WorkerHandle.start(serving, ports));
      }
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** Sessions attached now. */
  get sessions(): readonly number[] {
    return [...this.#sessions.keys()];
  }

  /** Hands memory to a serving worker. Resolves with the session's number once its faults are answered. */
  async attach(attachment: Attachment): Promise<number> {
    const { kind, pageSize, regions, resident = false, pidfd = -1 } = attachment;
    checkAttachment(attachment);
    const userfaultfd = ownDescriptor(attachment.userfaultfd);
    const memory = attachment.memory === undefined ? -1 : ownDescriptor(attachment.memory);
    if (this.#closing !== undefined) {
      for (const fd of [userfaultfd, memory]) if (fd >= 0) native().closeFd(fd);
      throw new UffdError('ERR_CLOSED', 'the server is closed');
    }
    const session = this.#numbers.next++;
    const worker = this.#workers.reduce((least, one) => (one.sessions < least.sessions ? one : least));
    const ways = memoryKinds[kind].fillWays;
    const wanted = this.fill === 'auto' ? ways[0]! : this.fill;
    const message: AttachMessage = {
      type: 'attach',
      session,
      userfaultfd,
      memory,
      kind,
      // The other way needs memory that may be written to; anonymous memory has only one.
      fill: ways.includes(wanted) && (wanted === 'copy' || memory >= 0) ? wanted : 'copy',
      pageSize,
      regions: regions.map(({ start, size, offset }) => ({ start: Number(start), size, offset })),
      resident,
    };
    worker.sessions++;
    await new Promise<void>((resolve, reject) => {
      this.#sessions.set(session, { worker, pidfd, settled: { resolve, reject } });
      if (!worker.send(message)) reject(new UffdError('ERR_WORKER_FAILED', 'the serving worker has ended'));
    });
    return session;
  }

  /** Stops serving a session without completing it: what it touches from now on is nobody's business but yours. */
  release(session: number): void {
    this.#sessions.get(session)?.worker.send({ type: 'release', session });
  }

  /** The client's connection is closed: the session ends when its address space does. */
  orphan(session: number): void {
    this.#sessions.get(session)?.worker.send({ type: 'orphaned', session });
  }

  async stats(): Promise<SessionStats[]> {
    const perWorker = this.#workers.map(
      (worker) =>
        new Promise<readonly SessionStats[]>((resolve) => {
          const request = this.#nextRequest++;
          this.#statsRequests.set(request, resolve);
          if (!worker.send({ type: 'stats', request })) resolve([]);
        }),
    );
    return (await Promise.all(perWorker)).flat();
  }

  /**
   * Completes every session (fills what is absent, unregisters, wakes) and resolves when none is left.
   * @throws UffdError ERR_DRAIN_TIMEOUT after `timeoutMs` (default 30,000), naming who is left waiting
   */
  async drain(timeoutMs = 30_000): Promise<void> {
    if (this.#sessions.size === 0) return;
    for (const worker of this.#workers) worker.send({ type: 'drain' });
    const signal = AbortSignal.timeout(timeoutMs);
    while (this.#sessions.size > 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const check = () => {
          this.off('detached', check);
          signal.removeEventListener('abort', check);
          resolve();
        };
        this.on('detached', check);
        signal.addEventListener('abort', check);
      });
    }
    if (this.#sessions.size > 0) throw new UffdError('ERR_DRAIN_TIMEOUT', await this.#whoIsLeft());
  }

  /**
   * Ends the workers and closes the server's descriptors. Does not complete sessions: `drain` first, or their clients,
   * which keep a userfaultfd of their own, wait for pages nobody brings.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Whether the server keeps the process alive. Default true. */
  setRef(ref: boolean): void {
    for (const worker of this.#workers) worker.setRef(ref);
    this.#fetchPool.setRef(ref);
  }

  async #close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    await this.#fetchPool.stop();
    this.source.close?.();
    for (const { settled } of this.#sessions.values()) {
      settled.reject(new UffdError('ERR_CLOSED', 'the server was closed'));
    }
    this.#sessions.clear();
    this.emit('close');
  }

  #adopt(worker: WorkerHandle): void {
    this.#workers.push(worker);
    worker.on('message', (message) => {
      this.#received(message);
    });
    worker.on('failed', (error) => {
      for (const attached of this.#sessions.values()) {
        if (attached.worker === worker) attached.settled.reject(error);
      }
      this.#workerFailed(error);
    });
  }

  #received(message: FromServing): void {
    switch (message.type) {
      case 'attached':
        this.#attached(message.session, message.error);
        break;
      case 'detached': {
        const attached = this.#sessions.get(message.session);
        if (attached !== undefined) attached.worker.sessions--;
        this.#sessions.delete(message.session);
        this.emit('detached', message.session, message.why, message.stats);
        break;
      }
      case 'parked':
        this.emit('parked', message.session, message.reason);
        break;
      case 'unserved':
        this.#unserved(message);
        break;
      case 'source-failed':
        this.emit('source-failed', message.reason);
        break;
      case 'stats':
        this.#statsRequests.get(message.request)?.(message.sessions);
        this.#statsRequests.delete(message.request);
        break;
    }
  }

  #attached(session: number, error: string | undefined): void {
    const attached = this.#sessions.get(session);
    if (attached === undefined) return;
    if (error === undefined) {
      attached.settled.resolve();
      this.emit('attached', session);
    } else {
      attached.worker.sessions--;
      this.#sessions.delete(session);
      attached.settled.reject(new UffdError('ERR_HANDOFF_REFUSED', error));
    }
  }

  #unserved({ session, action, page, reason }: Extract<FromServing, { type: 'unserved' }>): void {
    let detail = reason;
    if (action === 'kill') {
      const pidfd = this.#sessions.get(session)?.pidfd ?? -1;
      const error = pidfd < 0 ? -9 : native().sendSignal(pidfd, SIGKILL);
      if (error < 0) detail = `${reason}; the client could not be killed (errno ${-error})`;
    }
    this.emit('unserved', session, action, page, detail);
  }

  #workerFailed(error: Error): void {
    if (this.#closing === undefined) this.emit('error', error);
  }

  async #whoIsLeft(): Promise<string> {
    try {
      const stats = await Promise.race([
        this.stats(),
        new Promise<never>((_, reject) => setTimeout(reject, 1000, new Error('no answer')).unref()),
      ]);
      const lines = stats.map(({ session, states, waiting }) => {
        const reason = waiting[0] === undefined ? '' : `, page ${waiting[0].page}: ${waiting[0].reason}`;
        return `session ${session} (${states.absent + states.fetching} pages absent, ${waiting.length} waiting${reason})`;
      });
      return `not drained in time: ${lines.join('; ')}`;
    } catch (error) {
      return `not drained in time: sessions ${this.sessions.join(', ')} (${messageOf(error)})`;
    }
  }
}

function checkAttachment({ kind, pageSize, regions }: Attachment): void {
  if (!(kind in memoryKinds)) throw new UffdError('ERR_INVALID_ARGUMENT', `unknown kind of memory ${kind}`);
  inRange('pageSize', pageSize, 1, MAX_FILL_BYTES);
  for (const { start, size, offset } of regions) {
    inRange('size', size, 1, Number.MAX_SAFE_INTEGER);
    inRange('offset', offset, 0, Number.MAX_SAFE_INTEGER - size);
    if (size % pageSize !== 0 || offset % pageSize !== 0 || start % BigInt(pageSize) !== 0n) {
      throw new UffdError('ERR_OUT_OF_RANGE', `start, size and offset must be multiples of pageSize ${pageSize}`);
    }
  }
}

function ownDescriptor(of: { readonly fd: number } | number): number {
  return typeof of === 'number' ? of : checked(native().duplicateFd(of.fd), 'dup');
}

function oneOf(name: string, value: string | undefined, known: readonly string[]): void {
  if (value !== undefined && !known.includes(value)) {
    throw new UffdError('ERR_INVALID_ARGUMENT', `${name} must be one of ${known.join(', ')}, not ${value}`);
  }
}

function inRange(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new UffdError('ERR_OUT_OF_RANGE', `${name} must be a whole number from ${least} to ${most}, not ${value}`);
  }
}
