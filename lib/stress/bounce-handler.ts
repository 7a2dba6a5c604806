// One handler of a bounce: what it answers to each fault, and what it does unasked to get into the way of the others.
import { errnoName } from '../errors.js';
import { Answer, AnswerOp } from '../native/contract.js';
import { ANSWER_ROWS, type HandlerBlocks, type StressReader } from './fault-readers.js';
import type { BounceOrders, HandlerCounts } from './messages.js';

const FLAG = { wp: 2, minor: 4 } as const;
const EAGAIN = -11;
const EEXIST = -17;
const ECANCELED = -125;
/** WP of COPY and CONTINUE, and the one of WRITEPROTECT. */
const MAP_PROTECTED = 2;
const PROTECT = 1;
/** One COPY in so many is given twice: the second must be EEXIST. */
const PROVOKED = 16;
/** One page in so many is filled wrongly, when that is asked for. */
const MISTAKEN = 64;
/** Rows one fault can need, with those that are given unasked. */
const ROWS_PER_FAULT = 4;
const UNEXPECTED_KEPT = 10;

/** Why an answer was given; what its result means depends on it. */
type Reason = 'fill' | 'provoke' | 'ahead' | 'map' | 'unprotect' | 'protect' | 'wake';

export class BounceHandler {
  readonly counts: HandlerCounts = { missing: 0, minor: 0, wp: 0, provoked: 0, raced: 0, unexpected: [] };
  readonly #orders: BounceOrders;
  readonly #answers: Float64Array;
  readonly #addresses: Float64Array;
  readonly #flags: Uint32Array;
  readonly #reader: StressReader;
  readonly #rows: { reason: Reason; page: number }[] = [];
  #ahead: number;

  constructor(orders: BounceOrders, reader: StressReader, blocks: HandlerBlocks) {
    this.#orders = orders;
    this.#reader = reader;
    this.#answers = blocks.answers;
    this.#addresses = blocks.addresses;
    this.#flags = blocks.flags;
    this.#ahead = orders.firstAhead;
  }

  /** Returns when the bounce is over. Blocks the thread it runs on. */
  run(over: Int32Array): void {
    while (Atomics.load(over, 0) === 0) {
      const faults = this.#reader.answerAndWait(this.#rows.length);
      this.#settle();
      for (let i = 0; i < faults; i++) this.#fault(this.#addresses[i]!, this.#flags[i]!);
      if (faults > 0) this.#interfere();
    }
  }

  #fault(address: number, flags: number): void {
    const { target, pageSize, pages, mistake } = this.#orders;
    const page = Math.floor((address - target) / pageSize);
    if (page < 0 || page >= pages) {
      this.#unexpected(`a fault at 0x${address.toString(16)}, outside the memory`);
      return;
    }
    if (mistake === 'unanswered' && page === pages - 1) return;
    if ((flags & FLAG.wp) !== 0) {
      this.counts.wp++;
      this.#put('unprotect', page);
    } else if ((flags & FLAG.minor) !== 0) {
      this.counts.minor++;
      this.#put('map', page);
    } else {
      this.counts.missing++;
      this.#put('fill', page);
    }
  }

  /** A page nobody has asked for, perhaps at the moment another handler brings it; and one is protected again. */
  #interfere(): void {
    const { pages, protect } = this.#orders;
    this.#put('ahead', this.#ahead);
    this.#ahead = (this.#ahead + 1) % pages;
    if (protect.copy) this.#put('protect', Math.floor(Math.random() * pages));
  }

  #put(reason: Exclude<Reason, 'provoke'>, page: number): void {
    const { protect, pages, mistake } = this.#orders;
    const half = Math.random() < 0.5;
    switch (reason) {
      case 'fill':
      case 'ahead': {
        const provoke = Math.random() * PROVOKED < 1;
        this.#row(
          reason,
          page,
          AnswerOp.copy,
          (protect.copy && half ? MAP_PROTECTED : 0) + (provoke ? Answer.link : 0),
        );
        if (provoke) this.#row('provoke', mistake === 'not-twice' ? (page + 1) % pages : page, AnswerOp.copy, 0);
        break;
      }
      case 'map':
        this.#row(reason, page, AnswerOp.continue, protect.continue && half ? MAP_PROTECTED : 0);
        break;
      case 'protect':
      case 'unprotect':
        this.#row(reason, page, AnswerOp.writeProtect, reason === 'protect' ? PROTECT : 0);
        break;
      case 'wake':
        this.#row(reason, page, AnswerOp.wake, 0);
    }
  }

  #row(reason: Reason, page: number, op: number, mode: number): void {
    const { target, source, pageSize, pages, mistake } = this.#orders;
    const wrong = mistake === 'wrong-page' && Math.random() * MISTAKEN < 1;
    const at = this.#rows.length * Answer.fields;
    const answers = this.#answers;
    answers[at + Answer.slot] = 0;
    answers[at + Answer.op] = op;
    answers[at + Answer.mode] = mode;
    answers[at + Answer.start] = target + page * pageSize;
    answers[at + Answer.length] = pageSize;
    answers[at + Answer.source] = source + ((page + (wrong ? 1 : 0)) % pages) * pageSize;
    answers[at + Answer.offset] = 0;
    this.#rows.push({ reason, page });
    if (this.#rows.length > ANSWER_ROWS - ROWS_PER_FAULT) throw new RangeError('more answers than rows');
  }

  #settle(): void {
    const rows = this.#rows.splice(0);
    const results = rows.map((_, row) => this.#answers[row * Answer.fields + Answer.result]!);
    rows.forEach(({ reason, page }, row) => {
      const result = results[row]!;
      if (result === this.#orders.pageSize && reason !== 'provoke') return;
      if (!this.#goesOn(reason, page, result)) {
        const what = result < 0 ? errnoName(result)[0] : `${result} bytes`;
        this.#unexpected(`${what} as the result of "${reason}", page ${page}`);
      }
    });
  }

  /** What follows from a result that is not "done in full"; false when it should not have been. */
  #goesOn(reason: Reason, page: number, result: number): boolean {
    switch (reason) {
      case 'provoke':
        // Cancelled: its page was not filled by the row before, which another handler has overtaken.
        if (result === EEXIST) this.counts.provoked++;
        return result === EEXIST || result === ECANCELED;
      case 'ahead':
        if (result === EEXIST) this.counts.raced++;
        return result === EEXIST || result === EAGAIN;
      case 'protect':
        return result === EAGAIN;
      case 'fill':
      case 'map':
        if (result === EEXIST) {
          this.counts.raced++;
          // Of a page in the page cache EEXIST does not say that it is mapped; and it wakes nobody.
          this.#put(reason === 'fill' && this.#orders.cached ? 'map' : 'wake', page);
        } else if (result === EAGAIN) this.#put(reason, page);
        return result === EEXIST || result === EAGAIN;
      default:
        if (result === EAGAIN) this.#put(reason, page);
        return result === EAGAIN;
    }
  }

  #unexpected(what: string): void {
    if (this.counts.unexpected.length < UNEXPECTED_KEPT) this.counts.unexpected.push(what);
  }
}
