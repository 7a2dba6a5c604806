// The fault server: sessions come and go, serving workers answer, this thread only keeps the books.
import { EventEmitter } from 'node:events';
import { UffdError, checked, messageOf } from '../errors.js';
import type { FillWay } from '../memory/kinds/kind.js';
import { memoryKinds } from '../memory/kinds/kinds.js';
import { pageSize } from '../memory/page-size.js';
import { native } from '../native/load.js';
import {
  type Attachment,
  type FaultServerOptions,
  type ServerEvents,
  checkAttachment,
  checkOptions,
} from './fault-server-options.js';
import { FaultTrace, type TracedFault } from './fault-trace.js';
import { FetchPool } from './fetch-pool.js';
import { MAX_FILL_BYTES } from './page-filler.js';
import { type Histogram, Measures, type OutcomeName, outcomes } from './measures.js';
import type { AttachMessage, FromServing, ServingOptions, SessionStats, SessionSummary } from './messages.js';
import { type SourceSpec, portable } from './page-source.js';
import { WorkerHandle } from './worker-handle.js';
import { type WorkingSet, WorkingSetRecorder } from './working-set.js';

export type { Attachment, FaultServerOptions, ServerEvents } from './fault-server-options.js';

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
  readonly #statsRequests = new Map<number, (stats: readonly (SessionSummary | SessionStats)[]) => void>();
  readonly #measures: Measures[] = [];
  readonly #traces: FaultTrace[] = [];
  readonly #numbers: { next: number };
  readonly #recorder: WorkingSetRecorder | undefined;
  #nextRequest = 1;
  #closing: Promise<void> | undefined;

  private constructor(options: FaultServerOptions) {
    super();
    this.source = options.source;
    this.fill = options.fill ?? 'auto';
    this.#numbers = options.numbers ?? { next: 1 };
    const { record = false, source } = options;
    const earlier = typeof record === 'object' ? record.earlier : undefined;
    this.#recorder = record === false ? undefined : WorkingSetRecorder.create(source.sizeBytes, pageSize(), earlier);
    // A listener of transports each has its own.
    this.setMaxListeners(0);
    this.#fetchPool = new FetchPool(options.source, (error) => {
      this.#workerFailed(error);
    });
  }

  /** @throws UffdError ERR_OUT_OF_RANGE, ERR_WORKER_FAILED */
  static async start(options: FaultServerOptions): Promise<FaultServer> {
    checkOptions(options);
    const { workers = 2, faultAround = 64, faultDeadlineMs = 10_000, spinUs = 0, source, policy } = options;
    const server = new FaultServer(options);
    const serving: ServingOptions = {
      sourceSizeBytes: source.sizeBytes,
      ...(source.module !== undefined && source.runsIn !== 'fetching' && { source: portable(source.module) }),
      ...(policy !== undefined && { policy: portable(policy) }),
      faultAround,
      demandBytes: source.demandBytes ?? MAX_FILL_BYTES,
      backgroundBytes: source.backgroundBytes ?? MAX_FILL_BYTES,
      faultDeadlineMs,
      onFailure: options.onFailure ?? 'poison',
      spinUs,
      cpus: options.cpus ?? [],
      fetchesAsked: server.#fetchPool.asked,
      ...(server.#recorder !== undefined && { recording: server.#recorder.shared }),
      ...(options.replay !== undefined && { replay: options.replay }),
      backgroundFill: options.backgroundFill ?? false,
    };
    try {
      const opened = server.#fetchPool.started();
      opened.catch(() => undefined);
      for (let i = 0; i < workers; i++) {
        const ports = server.#fetchPool.portsOfServing();
        server.#adopt(await WorkerHandle.start({ ...serving, ...server.#watched(options) }, ports));
      }
      // What changes from here on is a source that has changed, not a server that cannot start.
      await opened;
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
    const { kind, pageSize, regions, resident = false, holes = new Float64Array(), pidfd = -1 } = attachment;
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
      holes,
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

  /** The client's connection is closed: the session ends with the process, or once none of its memory is registered. */
  orphan(session: number): void {
    this.#sessions.get(session)?.worker.send({ type: 'orphaned', session });
  }

  /** What each session has been served so far, and what state its pages are in; looks at every page. */
  async stats(): Promise<SessionStats[]> {
    return (await this.#ask(true)) as SessionStats[];
  }

  /** Without the states of pages. */
  async summaries(): Promise<SessionSummary[]> {
    return this.#ask(false);
  }

  /** How long answers took, by what they were; empty unless they are measured. */
  histograms(): { readonly outcome: OutcomeName; readonly histogram: Histogram }[] {
    return this.#measures.flatMap((one) => outcomes.map((outcome) => ({ outcome, histogram: one.histogram(outcome) })));
  }

  /** The faults since the last call, and how many more there were that could not be kept; none unless they are traced. */
  takeTrace(): { faults: TracedFault[]; lost: number } {
    const taken = this.#traces.map((trace) => trace.take());
    return {
      faults: taken.flatMap(({ faults }) => faults),
      lost: taken.reduce((sum, { lost }) => sum + lost, 0),
    };
  }

  async #ask(states: boolean): Promise<(SessionSummary | SessionStats)[]> {
    const perWorker = this.#workers.map(
      (worker) =>
        new Promise<readonly (SessionSummary | SessionStats)[]>((resolve) => {
          const request = this.#nextRequest++;
          this.#statsRequests.set(request, resolve);
          if (!worker.send({ type: 'stats', request, states })) resolve([]);
        }),
    );
    return (await Promise.all(perWorker)).flat();
  }

  /** What clients have asked for, with what came along; undefined unless it is recorded, and before the first client. */
  workingSet(): WorkingSet | undefined {
    return this.#recorder?.workingSet();
  }

  /** Is another number when more has been asked for since. */
  get workingSetChanges(): number {
    return this.#recorder?.changes ?? 0;
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

  /** The same as `close`. */
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

  /** What the next worker writes down for us to read. */
  #watched({ measure = false, trace = false }: FaultServerOptions): Pick<ServingOptions, 'measures' | 'trace'> {
    const measures = measure ? new Measures() : undefined;
    const traced = trace ? new FaultTrace() : undefined;
    if (measures !== undefined) this.#measures.push(measures);
    if (traced !== undefined) this.#traces.push(traced);
    return { ...(measures && { measures: measures.shared }), ...(traced && { trace: traced.shared }) };
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

function ownDescriptor(of: { readonly fd: number } | number): number {
  return typeof of === 'number' ? of : checked(native().duplicateFd(of.fd), 'dup');
}
