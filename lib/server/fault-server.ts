// The fault server: sessions come and go, serving workers answer, this thread only keeps the books.
import { EventEmitter, once } from 'node:events';
import { UffdError, checked } from '../errors.js';
import type { FillWay } from '../memory/kinds/kind.js';
import { memoryKinds } from '../memory/kinds/kinds.js';
import { native } from '../native/load.js';
import {
  type Attachment,
  type FaultServerOptions,
  type ServerEvents,
  checkAttachment,
  checkOptions,
  inRange,
  servingOptions,
} from './fault-server-options.js';
import { type AttachedSession, AttachedSessions } from './attached-sessions.js';
import type { TracedFault } from './fault-trace.js';
import { FetchPool } from './fetch-pool.js';
import { HeldWorkers } from './held-workers.js';
import type { Histogram, OutcomeName } from './measures.js';
import type { AttachMessage, FromServing, SessionStats, SessionSummary } from './messages.js';
import type { SourceSpec } from './page-source.js';
import { killClient } from './kill-client.js';
import { Records } from './records.js';
import { countersOf } from './session-counters.js';
import { StatsRequests } from './stats-requests.js';
import { whoIsLeft } from './who-is-left.js';
import { WorkerHandle } from './worker-handle.js';
import type { WorkingSet } from './working-set.js';

export type { Attachment, FaultServerOptions, ServerEvents } from './fault-server-options.js';

/** Serves page faults in worker threads. `await FaultServer.start(...)`, then `attach` or a listener of transports. */
export class FaultServer extends EventEmitter<ServerEvents> implements AsyncDisposable {
  readonly source: SourceSpec;
  readonly fill: FillWay | 'auto';
  readonly #workers: WorkerHandle[] = [];
  readonly #fetchPool: FetchPool;
  readonly #sessions = new AttachedSessions();
  readonly #statsRequests = new StatsRequests();
  readonly #records: Records;
  readonly #numbers: { next: number };
  readonly #startWorker: () => Promise<void>;
  readonly #held: HeldWorkers;
  #draining = false;
  #sourceFailed = false;
  #ref = true;
  #closing: Promise<void> | undefined;

  private constructor(options: FaultServerOptions) {
    super();
    this.source = options.source;
    this.fill = options.fill ?? 'auto';
    this.#numbers = options.numbers ?? { next: 1 };
    this.#records = new Records(options);
    // A listener of transports each has its own.
    this.setMaxListeners(0);
    this.#fetchPool = new FetchPool(options.source, (error) => {
      this.#workerFailed(error);
    });
    this.#startWorker = async () => {
      const shared = { ...this.#records.ofNextWorker(), fetchesAsked: this.#fetchPool.asked };
      const serving = { ...servingOptions(options), ...shared };
      const worker = await WorkerHandle.start(serving, this.#fetchPool.portsOfServing());
      if (this.#closing === undefined) this.#adopt(worker);
      else await worker.stop();
    };
    this.#held = new HeldWorkers({
      workers: this.#workers,
      sessions: this.#sessions,
      start: this.#startWorker,
      held: (worker) => {
        this.#statsRequests.giveUp(worker);
      },
      moved: (sessions, count, reason) => {
        this.emit('held', sessions, count, ...(reason === undefined ? [] : [reason]));
      },
    });
  }

  /** @throws UffdError ERR_OUT_OF_RANGE, ERR_WORKER_FAILED */
  static async start(options: FaultServerOptions): Promise<FaultServer> {
    checkOptions(options);
    const server = new FaultServer(options);
    try {
      const opened = server.#fetchPool.started();
      opened.catch(() => undefined);
      // Together: what a thread does before it serves is nearly all of the start. All of them have come to an end of that
      // when one has failed, so that none is left.
      const started = await Promise.allSettled(Array.from({ length: options.workers ?? 2 }, server.#startWorker));
      for (const worker of started) if (worker.status === 'rejected') throw worker.reason;
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
    return this.#sessions.numbers();
  }

  /** Hands memory to a serving worker. Resolves with the session's number once its faults are answered. */
  async attach(attachment: Attachment): Promise<number> {
    const { kind, pageSize, regions, resident = false, holes = new Float64Array(), pidfd = -1, pid } = attachment;
    checkAttachment(attachment);
    const userfaultfd = ownDescriptor(attachment.userfaultfd);
    const memory = attachment.memory === undefined ? -1 : ownDescriptor(attachment.memory);
    const worker = await this.#held.next(pid);
    if (this.#closing !== undefined) {
      for (const fd of [userfaultfd, memory]) if (fd >= 0) native().closeDetached(fd);
      throw new UffdError('ERR_CLOSED', 'the server is closed');
    }
    const session = this.#numbers.next++;
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
    this.#held.watch();
    await this.#sessions.add(worker, message, { pid, pidfd });
    return session;
  }

  /** Stops serving a session without completing it: what it touches from now on is nobody's business but yours. */
  release(session: number): void {
    this.#sessions.tell(session, 'release');
  }

  /** The client's connection is closed: the session ends with the process, or once none of its memory is registered. */
  orphan(session: number): void {
    this.#sessions.tell(session, 'orphaned');
  }

  /** What each session has been served so far, and what state its pages are in; looks at every page. */
  async stats(): Promise<SessionStats[]> {
    return (await this.#statsRequests.ask(this.#workers, true)) as SessionStats[];
  }

  /** Without the states of pages. */
  async summaries(): Promise<SessionSummary[]> {
    return this.#statsRequests.ask(this.#workers, false);
  }

  /** How long answers took, by what they were; empty unless they are measured. */
  histograms(): { readonly outcome: OutcomeName; readonly histogram: Histogram }[] {
    return this.#records.histograms();
  }

  /** The faults since the last call, and how many more there were that could not be kept; none unless they are traced. */
  takeTrace(): { faults: TracedFault[]; lost: number } {
    return this.#records.takeTrace();
  }

  /** What clients have asked for, with what came along; undefined unless it is recorded, and before the first client. */
  workingSet(): WorkingSet | undefined {
    return this.#records.workingSet();
  }

  /** Is another number when more has been asked for since. */
  get workingSetChanges(): number {
    return this.#records.workingSetChanges;
  }

  /**
   * Completes every session (fills what is absent, unregisters, wakes) and resolves when none is left.
   * @throws UffdError ERR_DRAIN_TIMEOUT after `timeoutMs` (default 30,000), naming who is left waiting; ERR_OUT_OF_RANGE
   */
  async drain(timeoutMs = 30_000): Promise<void> {
    inRange('timeoutMs', timeoutMs, 0, 2 ** 31 - 1);
    if (this.#sessions.size === 0) return;
    this.#draining = true;
    for (const worker of this.#workers) worker.send({ type: 'drain' });
    const signal = AbortSignal.timeout(timeoutMs);
    while (this.#sessions.size > 0 && !signal.aborted)
      await once(this.#sessions, 'over', { signal }).catch(() => undefined);
    if (this.#sessions.size === 0) return;
    throw new UffdError('ERR_DRAIN_TIMEOUT', `not drained in time: ${await whoIsLeft(this)}`);
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
    this.#ref = ref;
    for (const worker of this.#workers) worker.setRef(ref);
    this.#fetchPool.setRef(ref);
  }

  async #close(): Promise<void> {
    await this.#held.close();
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    await this.#fetchPool.stop();
    this.#sessions.clear(new UffdError('ERR_CLOSED', 'the server was closed'));
    this.source.close?.();
    this.emit('close');
  }

  #adopt(worker: WorkerHandle): void {
    this.#workers.push(worker);
    worker.on('message', (message) => {
      this.#received(message);
    });
    worker.on('failed', (error) => {
      this.#sessions.fail(worker, error);
      this.#statsRequests.giveUp(worker);
      this.#workerFailed(error);
    });
    worker.setRef(this.#ref);
    if (this.#draining) worker.send({ type: 'drain' });
  }

  #received(message: FromServing): void {
    const heard = 'session' in message ? this.#sessions.heard(message) : undefined;
    switch (message.type) {
      case 'attached':
        if (heard?.attached !== undefined && heard.news) this.emit('attached', message.session);
        break;
      case 'refused':
        if (heard?.attached?.message.moved !== undefined) this.#lost(heard.attached, message.error);
        break;
      case 'detached':
        this.emit('detached', message.session, message.why, message.stats);
        break;
      case 'parked':
        this.emit('parked', message.session, message.reason);
        break;
      case 'unserved':
        this.#unserved(message);
        break;
      case 'source-failed':
        if (!this.#sourceFailed) this.emit('source-failed', message.reason);
        this.#sourceFailed = true;
        break;
      case 'stats':
        this.#statsRequests.answered(message.request, message.sessions);
        break;
    }
  }

  /** One that could not go on at another worker: its client is told by the end of its connection. */
  #lost({ message: { session, regions, pageSize } }: AttachedSession, error: string): void {
    const pages = regions.reduce((sum, { size }) => sum + size / pageSize, 0);
    this.emit('unserved', session, 'stall', -1, `it could not go on at another worker: ${error}`);
    this.emit('detached', session, 'gone', {
      session,
      pages,
      waitingPages: 0,
      waiting: [],
      ...countersOf(new Float64Array()),
    });
  }

  #unserved({ session, action, page, reason }: Extract<FromServing, { type: 'unserved' }>): void {
    const attached = action === 'kill' ? this.#sessions.get(session) : undefined;
    const problem = attached && killClient(attached.pidfd);
    if (problem === undefined) this.emit('unserved', session, action, page, reason);
    else this.emit('unserved', session, 'stall', page, `${reason}; the client could not be killed: ${problem}`);
  }

  #workerFailed(error: Error): void {
    if (this.#closing === undefined) this.emit('error', error);
  }
}

function ownDescriptor(of: { readonly fd: number } | number): number {
  return typeof of === 'number' ? of : checked(native().duplicateFd(of.fd), 'dup');
}
