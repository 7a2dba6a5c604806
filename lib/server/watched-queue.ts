// The FaultQueue of a serving worker, and what may come of any call on a client: that it took so long, for a lock which the
// client held, that the main thread has given everything else to another worker meanwhile.
import { KernelError } from '../errors.js';
import { Held, type NativeFaultQueue, QueueControl } from '../native/contract.js';
import { native } from '../native/load.js';

export class WatchedQueue {
  readonly #queue: NativeFaultQueue;
  readonly #taken: () => void;
  /** By `QueueControl`. */
  readonly control = new Int32Array(new SharedArrayBuffer(QueueControl.fields * 4));

  /**
   * @param answers rows of `Answer`
   * @param events rows of `EventRow`
   * @param taken called when everything else was given away, before anybody can touch it
   */
  constructor(answers: Float64Array, events: Float64Array, taken: () => void) {
    this.#queue = new (native().FaultQueue)(answers, events, this.control);
    this.#taken = taken;
    if (this.#queue.error() < 0) throw new KernelError(this.#queue.error(), 'epoll_create');
  }

  /** An eventfd; stays owned by the queue. */
  get wakeFd(): number {
    return this.#queue.wakeFd();
  }

  add(userfaultfd: number, memory: number, session: number): number {
    return this.#queue.add(userfaultfd, memory, session);
  }

  remove(slot: number): number {
    return this.#watched(this.#queue.remove(slot));
  }

  mute(slot: number): number {
    return this.#queue.mute(slot);
  }

  alive(slot: number): number {
    return this.#watched(this.#queue.alive(slot));
  }

  register(slot: number, start: number, length: number, mode: number): bigint | number {
    return this.#watched(this.#queue.register(slot, start, length, mode));
  }

  unregisteredBefore(slot: number, start: number, stride: number, count: number): number {
    return this.#watched(this.#queue.unregisteredBefore(slot, start, stride, count));
  }

  /** Gives so many rows. Until `settled` they are known to whoever takes the sessions over. */
  answer(rows: number): void {
    this.control[QueueControl.rowsToAnswer] = rows;
    this.#watched(this.#queue.answer(rows));
  }

  /** The same, and waits; `timeoutMs` -1: as long as the queue waits by itself. Rows of events. */
  answerAndWait(rows: number, timeoutMs: number): number {
    this.control[QueueControl.rowsToAnswer] = rows;
    this.control[QueueControl.timeoutMs] = timeoutMs;
    this.#queue.answerAndWait();
    const read = this.control[QueueControl.rowsRead]!;
    this.#watched(read);
    if (read < 0) throw new KernelError(read, 'epoll_wait');
    return read;
  }

  /** Giving the last answers took so long that what was copied may have changed meanwhile. */
  get tookLong(): boolean {
    return this.control[QueueControl.tookLong] !== 0;
  }

  settled(): void {
    this.control[QueueControl.rowsToAnswer] = 0;
  }

  close(): void {
    this.#queue.close();
  }

  #watched<T>(result: T): T {
    // Not when it is asked only: whoever asks has seen by then that this thread has come back. A plain read: the call has
    // read it last itself, atomically, and no thread sees an older value of a word than it has seen.
    if (this.control[QueueControl.held] === Held.taken) this.#taken();
    return result;
  }
}
