// A client can hold the lock of its own address space for as long as it likes (mmap(2) of a file of its own file system),
// and whatever thread calls the kernel about its memory waits for it, and cannot be interrupted. So the worker is left to
// that client alone: the other sessions, which it is not working for at that moment, go on at another worker.
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../errors.js';
import type { AttachedSession, AttachedSessions } from './attached-sessions.js';
import type { WorkerHandle } from './worker-handle.js';

/** From one look at every worker to the next. */
const LOOK_MS = 100;
/** Workers beyond those that were asked for. With more clients than that at it, they meet at the same ones. */
const MAX_REFUGES = 8;
/** How long one is waited for, and how long none is tried for after one could not be had. */
const START_MS = 5000;
const AGAIN_MS = 5000;

export interface HeldWorkersParts {
  readonly workers: readonly WorkerHandle[];
  readonly sessions: AttachedSessions;
  /** Starts one more worker. */
  readonly start: () => Promise<void>;
  /** The worker is held: what it was asked waits until its client lets go. */
  readonly held: (worker: WorkerHandle) => void;
  /** So many sessions were given to another worker, from one that is held by these; 0: none could be had, and why. */
  readonly moved: (holders: readonly number[], count: number, reason?: string) => void;
}

export class HeldWorkers {
  readonly #parts: HeldWorkersParts;
  #timer: NodeJS.Timeout | undefined;
  #started = 0;
  #starting: Promise<void> | undefined;
  #notBefore = 0;
  readonly #toldBefore = new WeakMap<WorkerHandle, number>();
  #closed = false;

  constructor(parts: HeldWorkersParts) {
    this.#parts = parts;
  }

  /** Looks from now on, until there are no sessions. */
  watch(): void {
    this.#timer ??= setInterval(() => {
      this.#look();
    }, LOOK_MS).unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    // What is opened in it is somebody else's code.
    const started = this.#starting?.catch(() => undefined);
    if (started !== undefined) await Promise.race([started, delay(START_MS, undefined, { ref: false })]);
  }

  #look(): void {
    const { workers, sessions, held } = this.#parts;
    for (const worker of workers) {
      const holders = worker.heldBy();
      if (holders.length === 0) continue;
      held(worker);
      // First: a session that it has said is over has no descriptors to go on with.
      worker.hear();
      for (const session of holders) if (sessions.get(session)?.worker === worker) worker.holders.add(session);
      const pids = new Set(holders.map((session) => sessions.get(session)?.pid));
      const others = sessions
        .of(worker)
        .filter(({ message, pid }) => !holders.includes(message.session) && !(pid !== undefined && pids.has(pid)));
      if (others.length > 0) this.#moveAway(worker, holders, others);
    }
    if (sessions.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #moveAway(from: WorkerHandle, by: readonly number[], others: readonly AttachedSession[]): void {
    const { workers, sessions, moved } = this.#parts;
    if (from.left) return;
    const free = workers.filter((worker) => worker !== from && worker.available);
    const trusted = free.filter(({ holders }) => holders.size === 0);
    const to = leastBusy(trusted.length > 0 || this.#mayStart ? trusted : free);
    if (to !== undefined) {
      const { count, problem } = sessions.move(from, to, others);
      if (count > 0) moved(by, count);
      if (problem !== undefined) this.#stay(from, by, `${others.length - count} sessions wait with it: ${problem}`);
    } else if (this.#mayStart) {
      void this.#start().catch((error: unknown) => {
        moved(by, 0, messageOf(error));
      });
    } else {
      this.#stay(from, by, `${others.length} sessions wait with it: all other workers are held, or were`);
    }
  }

  /** Told once in a while. */
  #stay(worker: WorkerHandle, by: readonly number[], reason: string): void {
    const now = performance.now();
    if (now < (this.#toldBefore.get(worker) ?? -Infinity) + AGAIN_MS) return;
    this.#toldBefore.set(worker, now);
    this.#parts.moved(by, 0, reason);
  }

  /**
   * The one that a new session is given to: there is always one, but all may be held. A process that holds one has more of
   * its sessions there, where they wait for it alone.
   */
  async next(pid: number | undefined): Promise<WorkerHandle> {
    const { workers, sessions } = this.#parts;
    const its = workers.find(
      (worker) => pid !== undefined && worker.heldBy().some((of) => sessions.get(of)?.pid === pid),
    );
    if (its !== undefined) return its;
    if (this.#mayStart && !workers.some(({ available }) => available))
      await Promise.race([this.#start().catch(() => undefined), delay(START_MS, undefined, { ref: false })]);
    const available = workers.filter((worker) => worker.available);
    // One that nothing was taken from yet can be helped when it is held.
    return leastBusy(available) ?? leastBusy(workers.filter(({ left }) => !left)) ?? leastBusy(workers)!;
  }

  get #mayStart(): boolean {
    if (this.#closed || performance.now() < this.#notBefore) return false;
    return this.#starting !== undefined || this.#started < MAX_REFUGES;
  }

  #start(): Promise<void> {
    this.#starting ??= this.#parts
      .start()
      .then(
        () => {
          this.#started++;
        },
        (error: unknown) => {
          this.#notBefore = performance.now() + AGAIN_MS;
          throw error;
        },
      )
      .finally(() => {
        this.#starting = undefined;
      });
    return this.#starting;
  }
}

/** Of those that nobody has held, if there are any. */
function leastBusy(workers: readonly WorkerHandle[]): WorkerHandle | undefined {
  const trusted = workers.filter(({ holders }) => holders.size === 0);
  const [first, ...others] = trusted.length > 0 ? trusted : workers;
  return others.reduce((least, one) => (least !== undefined && one.sessions < least.sessions ? one : least), first);
}
