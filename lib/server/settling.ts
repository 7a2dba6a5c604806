// After a batch of answers: from the results to the states of the pages, and what falls short to its next attempt.
import { errnoName } from '../errors.js';
import { AnswerOp } from '../native/contract.js';
import type { AnswerBlock } from './answer-block.js';
import { type Measures, outcomes } from './measures.js';
import { PageState } from './page-states.js';
import { MAX_ATTEMPTS, type Session } from './session.js';
import { Counter } from './session-counters.js';

const ENOENT = -2;
const ESRCH = -3;
/** EINTR: this thread was held by a client, and others were given away, before its turn came. */
const NOT_BEGUN = -4;
const EBADF = -9;
const EAGAIN = -11;
const ENOMEM = -12;
const EFAULT = -14;
const EEXIST = -17;
const EINVAL = -22;
const ENOTTY = -25;
const ECANCELED = -125;

const [MAPPED, FILLED, ZEROED, POISONED] = outcomes.keys() as unknown as [number, number, number, number];

/** A page to be decided again, by itself. */
export interface Retry {
  readonly session: Session;
  readonly page: number;
  readonly minor: boolean;
}

export interface SettlingParts {
  readonly answers: AnswerBlock;
  readonly faultDeadlineMs: number;
  readonly measures: Measures | undefined;
  /** False of a session that is over, or another worker's. */
  readonly has: (session: Session) => boolean;
  /** Whether it is to be completed before the server goes. */
  readonly draining: (session: Session) => boolean;
  /** The address space of the session is gone. */
  readonly gone: (session: Session) => void;
  readonly poisoned: (session: Session, page: number, reason: string) => void;
  /** UFFDIO_POISON does not exist here (before Linux 6.6). */
  readonly cannotPoison: (session: Session, page: number) => void;
}

export class Settling {
  readonly #parts: SettlingParts;
  readonly #answers: AnswerBlock;
  readonly retries: Retry[] = [];
  // Rows to wake, as [session, first page, pages]: added once the block is empty again.
  readonly #wakes: [Session, number, number][] = [];
  // Addresses to be poisoned after all, in the same way.
  readonly #strays: [Session, number][] = [];

  constructor(parts: SettlingParts) {
    this.#parts = parts;
    this.#answers = parts.answers;
  }

  /** Settles every row, empties the block, and plans the wakes that came of it. */
  settle(): void {
    const answers = this.#answers;
    for (let row = 0; row < answers.count; row++) {
      const session = answers.sessions[row]!;
      const result = answers.result(row);
      if (!this.#parts.has(session)) continue;
      if (result === answers.length(row)) this.#done(session, row, result);
      else if (result === ESRCH) this.#parts.gone(session);
      else if (answers.firstPages[row]! >= 0) this.#short(session, row, result);
      else if (result === NOT_BEGUN || result === EAGAIN) this.#strays.push([session, answers.start(row)]);
    }
    answers.clear();
    if (this.#strays.length > 0) {
      for (const [session, address] of this.#strays) answers.addStray(AnswerOp.poison, session, address);
      this.#strays.length = 0;
    }
    if (this.#wakes.length === 0) return;
    for (const [session, first, pages] of this.#wakes) {
      answers.add(AnswerOp.wake, session, session.regionOfPage(first), first, pages, -1);
    }
    this.#wakes.length = 0;
  }

  #done(session: Session, row: number, bytes: number): void {
    const first = this.#answers.firstPages[row]!;
    if (first < 0) return;
    const pages = bytes / session.pageSize;
    if (this.#parts.measures !== undefined) this.#measure(this.#parts.measures, session, row);
    switch (this.#answers.op(row)) {
      case AnswerOp.continue:
      case AnswerOp.copy:
        if (session.states.bytes[first] !== PageState.fetching) {
          if (this.#answers.op(row) === AnswerOp.copy) this.#zeroed(session, first, 1);
        } else {
          session.states.set(first, pages, PageState.resident);
          session.counters[Counter.filledPages]! += pages;
        }
        session.answered(first, pages);
        break;
      case AnswerOp.zeropage:
        this.#zeroed(session, first, pages);
        session.answered(first, pages);
        break;
      case AnswerOp.poison: {
        const waiting = session.waiting.get(first);
        session.states.set(first, 1, PageState.poisoned);
        session.counters[Counter.poisonedPages]!++;
        session.answered(first, 1);
        this.#parts.poisoned(session, first, waiting?.reason ?? 'the policy says so');
        break;
      }
    }
  }

  /** What has waited is measured when nobody waits for it any more. */
  #measure(measures: Measures, session: Session, row: number): void {
    if (this.#answers.asked[row] === 0 || session.waiting.has(this.#answers.demands[row]!)) return;
    const filled = session.states.bytes[this.#answers.firstPages[row]!] === PageState.fetching;
    switch (this.#answers.op(row)) {
      case AnswerOp.continue:
        measures.answered(filled ? FILLED : MAPPED);
        break;
      case AnswerOp.copy:
        measures.answered(filled ? FILLED : ZEROED);
        break;
      case AnswerOp.zeropage:
        measures.answered(ZEROED);
        break;
      case AnswerOp.poison:
        measures.answered(POISONED);
    }
  }

  #zeroed(session: Session, first: number, pages: number): void {
    session.states.set(first, pages, PageState.zero);
    session.counters[Counter.zeroPages]! += pages;
  }

  #short(session: Session, row: number, result: number): void {
    const answers = this.#answers;
    const op = answers.op(row);
    if (session.leaving) {
      // EAGAIN while a REMOVE or UNMAP is unread: whoever drops the memory sleeps until it is.
      if (op === AnswerOp.writeProtect) session.left = result !== EAGAIN && result !== NOT_BEGUN;
      // Something in it is none of ours: a file that the client has mapped there, or another userfaultfd's.
      else if (op === AnswerOp.unregister && result === EINVAL && answers.length(row) > session.pageSize)
        session.unregisteredPages = 0;
      // Nothing of the end has been done for certain.
      else if (result === NOT_BEGUN) session.leaving = false;
      return;
    }
    if (op === AnswerOp.wake && result === NOT_BEGUN)
      this.#wakes.push([session, answers.firstPages[row]!, answers.length(row) / session.pageSize]);
    // Waking, unregistering: nothing to make up for. The row behind a write that fell short: dealt with there.
    if (op === AnswerOp.wake || op === AnswerOp.unregister || result === ECANCELED) return;
    let first = answers.firstPages[row]!;
    let pages = answers.length(row) / session.pageSize;
    if (result > 0 && op !== AnswerOp.write) {
      const done = Math.floor(result / session.pageSize);
      this.#done(session, row, done * session.pageSize);
      first += done;
      pages -= done;
    }
    if (session.states.bytes[first] === PageState.fetching) session.states.set(first, pages, PageState.absent);
    if (result > 0 && op !== AnswerOp.write) {
      // What stopped it shows when the next page is tried: whoever waits there faults again.
      this.#wakes.push([session, first, pages]);
      return;
    }
    const demand = answers.demands[row]!;
    if (demand < 0) this.#shortUnasked(session, row, first, pages, result);
    else if (result === EEXIST && pages === 1 && answers.answeredBefore(row)) {
      // Two messages for one page in one batch: it had its answer.
      session.answered(demand, 1);
      this.#wakes.push([session, demand, 1]);
    } else this.#shortDemand(session, op, first, pages, demand, result);
  }

  /** A fill nobody asked for: only what is known for certain is noted, the rest is to be tried again. */
  #shortUnasked(session: Session, row: number, first: number, pages: number, result: number): void {
    if (result === ENOENT) session.unmapped = true;
    if (pages > 1) return;
    const op = this.#answers.op(row);
    const state = this.#provenBy(session, row, result);
    if (state !== undefined) {
      session.states.set(first, 1, state);
      if (!session.waiting.has(first)) return;
      session.answered(first, 1);
      this.#wakes.push([session, first, 1]);
      return;
    }
    // To be written where it is (COPY to a page in the page cache), and what passes by itself.
    const next =
      (result === EEXIST && op === AnswerOp.copy && session.writable) || result === EAGAIN || result === EBADF;
    if (next || result === NOT_BEGUN || !this.#parts.draining(session)) return;
    session.owe(first, shortage(op, result), this.#parts.faultDeadlineMs);
  }

  /** What a page is when it could not be filled; undefined where that has shown nothing of it. */
  #provenBy(session: Session, row: number, result: number): number | undefined {
    const answers = this.#answers;
    const op = answers.op(row);
    if (result === EEXIST) {
      return op === AnswerOp.continue || session.kind.copyExists === 'mapped' ? PageState.resident : undefined;
    }
    // Not registered any more; or beyond the end of the memory, unless it was the bytes that could not be had (of a file
    // that has shrunk) or the memory for them (a write says the same of all that).
    const none = result === ENOENT || (result === EFAULT && op !== AnswerOp.write && !answers.held(row));
    if (!none) return undefined;
    return op === AnswerOp.zeropage ? PageState.zero : PageState.removed;
  }

  #shortDemand(session: Session, op: number, first: number, pages: number, demand: number, result: number): void {
    if (pages > 1) {
      // One page of several is in the way. The faulting one by itself; the others fault again.
      this.retries.push({ session, page: demand, minor: op === AnswerOp.continue });
      this.#wakes.push([session, first, pages]);
      return;
    }
    switch (result) {
      case EEXIST:
        if (op === AnswerOp.poison || (op === AnswerOp.copy && session.kind.copyExists === 'mapped')) {
          session.states.set(demand, 1, PageState.resident);
          session.answered(demand, 1);
          this.#wakes.push([session, demand, 1]);
        } else {
          this.#wakeAndCount(session, demand, shortage(op, result));
        }
        break;
      case ENOENT:
      case EFAULT:
        this.#wakeAndCount(session, demand, shortage(op, result));
        break;
      case EINVAL:
      case ENOTTY:
        if (op === AnswerOp.poison) this.#parts.cannotPoison(session, demand);
        else this.#wakeAndCount(session, demand, `${errnoName(result)[0]}: ${errnoName(result)[1]}`);
        break;
      case ENOMEM:
        this.#outOfMemory(session, op, demand);
        break;
      case EBADF:
        // Cancelled before it was given. Decided again: the source has failed, or its bytes have to be read now.
        this.retries.push({ session, page: demand, minor: op === AnswerOp.write });
        break;
      default: {
        const reason = result === EAGAIN ? 'the mappings are being changed' : `${errnoName(result)[0]} of the answer`;
        session.wait(demand, reason, this.#parts.faultDeadlineMs);
        this.retries.push({ session, page: demand, minor: op === AnswerOp.continue });
      }
    }
  }

  /**
   * There is no memory now; or, since Linux 7.3, the page lies beyond the end of shared memory that was cut off: no retry
   * helps there, and the kernel has a SIGBUS for whoever looks. So the waiter looks, and if it comes back to the same, it
   * sleeps until the next attempt. In turns: neither of them spins.
   */
  #outOfMemory(session: Session, op: number, page: number): void {
    const reason = 'ENOMEM: no memory, the limit of a memory cgroup, or the end of the memory';
    const waiting = session.wait(page, reason, this.#parts.faultDeadlineMs);
    waiting.looksAgain = !waiting.looksAgain;
    if (waiting.looksAgain) {
      waiting.asleep = false;
      this.#wakes.push([session, page, 1]);
    } else {
      this.retries.push({ session, page, minor: op === AnswerOp.continue });
    }
  }

  /** Lets the waiter look again, unless that has not helped often enough. */
  #wakeAndCount(session: Session, page: number, reason: string): void {
    const waiting = session.wait(page, reason, this.#parts.faultDeadlineMs);
    waiting.attempts++;
    if (waiting.attempts >= MAX_ATTEMPTS) return;
    waiting.asleep = false;
    this.#wakes.push([session, page, 1]);
  }
}

/** Why a page is not there yet, in a few words. */
function shortage(op: number, result: number): string {
  if (result >= 0) return 'only a part of the page could be written';
  const name = errnoName(result)[0];
  if (result === EEXIST) return `${name}: the page is there, or the huge page pool is empty`;
  if (result === EFAULT && op === AnswerOp.write) return `${name}: no memory for the page, or it lies beyond the end`;
  if (result === EFAULT || result === ENOENT) return `${name}: the page is not mapped any more`;
  return `${name}: ${errnoName(result)[1]}`;
}
