// The rows of one batch of answers: what native reads, and what the settling afterwards needs to know of each.
import { Answer, AnswerOp } from '../native/contract.js';
import type { ServedRegion, Session } from './session.js';

/** Rows in a batch; a full block is given before it is added to. */
const ROWS = 1024;
/** Answers that one fill may be given in, and rows of each: a write and the CONTINUE linked to it stay together. */
export const MAX_PIECES = 16;
const ROWS_PER_FILL = 2 * MAX_PIECES;
/** Of the bytes that a row shows: none of the source, a copy of some, or those that `PageSource.addressNow` points to. */
const FromSource = { no: 0, copied: 1, held: 2 } as const;

export class AnswerBlock {
  readonly values = new Float64Array(new SharedArrayBuffer(ROWS * Answer.fields * 8));
  /** Of each row: whose pages it is for. */
  readonly sessions: (Session | undefined)[] = new Array<Session | undefined>(ROWS).fill(undefined);
  readonly firstPages = new Int32Array(ROWS);
  /** The faulting page the row was planned for, or -1. */
  readonly demands = new Int32Array(ROWS);
  /** 1 where somebody is known to wait for a page of the row. */
  readonly asked = new Uint8Array(ROWS);
  /** By `FromSource`: what is of the source must be unchanged when the row is given. */
  readonly fromSource = new Uint8Array(ROWS);
  count = 0;
  /** Rows with bytes of the source, and those of them that show what `PageSource.addressNow` pointed to. */
  sourceRows = 0;
  heldRows = 0;

  get full(): boolean {
    return this.count + ROWS_PER_FILL > ROWS;
  }

  /** UFFDIO_CONTINUE, ZEROPAGE, POISON, WAKE or UNREGISTER of whole pages. */
  add(op: number, session: Session, region: ServedRegion, first: number, pages: number, demand: number): void {
    this.#row(op, session, first, demand, session.addressOf(region, first), pages * session.pageSize);
  }

  /** UFFDIO_COPY of bytes of the source that lie at an address of this process. */
  addCopy(session: Session, region: ServedRegion, first: number, pages: number, demand: number, source: number): void {
    this.addZeroCopy(session, region, first, pages, demand, source);
    this.#mark();
  }

  /** UFFDIO_COPY of zeroes, where there is no ZEROPAGE. */
  addZeroCopy(
    session: Session,
    region: ServedRegion,
    first: number,
    pages: number,
    demand: number,
    source: number,
  ): void {
    const address = session.addressOf(region, first);
    const at = this.#row(AnswerOp.copy, session, first, demand, address, pages * session.pageSize);
    this.values[at + Answer.source] = source;
  }

  /** Zeroes that the source has there: to be given only while it is unchanged. `zeroes`: an address of that many. */
  addHole(session: Session, region: ServedRegion, first: number, pages: number, demand: number, zeroes: number): void {
    if ('since' in session.kind.answers.zeropage) this.add(AnswerOp.zeropage, session, region, first, pages, demand);
    else this.addZeroCopy(session, region, first, pages, demand, zeroes);
    this.#mark();
  }

  /** pwrite(2) from an address of this process into the memory; the row after it is done only if this one is. */
  addWrite(session: Session, region: ServedRegion, first: number, pages: number, demand: number, source: number): void {
    const address = session.addressOf(region, first);
    const at = this.#row(AnswerOp.write, session, first, demand, address, pages * session.pageSize);
    this.#mark();
    this.values[at + Answer.mode] = Answer.link;
    this.values[at + Answer.source] = source;
    this.values[at + Answer.offset] = session.offsetOf(region, first);
  }

  /** An answer for a page at an address of no region. */
  addStray(op: number, session: Session, address: number): void {
    this.#row(op, session, -1, -1, address, session.pageSize);
  }

  /** Makes every answer that would show bytes of the source fall short (EBADF), and with it what is linked to it. */
  cancelSourceRows(): void {
    for (let row = 0; row < this.count; row++) {
      if (this.fromSource[row] !== FromSource.no) this.values[row * Answer.fields + Answer.slot] = -1;
    }
  }

  /** The rows from this one on show bytes where `PageSource.addressNow` says they are. */
  hold(from: number): void {
    for (let row = from; row < this.count; row++)
      if (this.fromSource[row] === FromSource.copied) this.fromSource[row] = FromSource.held;
    this.heldRows++;
  }

  /** Whom bytes were shown where the source has them. */
  sessionsOfHeldRows(): Session[] {
    const shown = new Set<Session>();
    for (let row = 0; row < this.count; row++)
      if (this.held(row) && this.result(row) > 0) shown.add(this.sessions[row]!);
    return [...shown];
  }

  /** Whether the bytes of the row are where the source has them: they can be gone by the time it is given. */
  held(row: number): boolean {
    return this.fromSource[row] === FromSource.held;
  }

  /** Whether an earlier row has answered for the page of this one already. */
  answeredBefore(row: number): boolean {
    const [session, page] = [this.sessions[row], this.firstPages[row]!];
    for (let before = 0; before < row; before++) {
      if (this.sessions[before] !== session || !SHOWS.has(this.op(before))) continue;
      const done = this.result(before) / session!.pageSize;
      const first = this.firstPages[before]!;
      if (page >= first && page < first + done) return true;
    }
    return false;
  }

  /** The last row's faulting page stands in for one that is in another row. */
  standsIn(): void {
    this.asked[this.count - 1] = 0;
  }

  op(row: number): number {
    return this.values[row * Answer.fields + Answer.op]!;
  }
  result(row: number): number {
    return this.values[row * Answer.fields + Answer.result]!;
  }
  length(row: number): number {
    return this.values[row * Answer.fields + Answer.length]!;
  }
  start(row: number): number {
    return this.values[row * Answer.fields + Answer.start]!;
  }

  clear(): void {
    for (let row = 0; row < this.count; row++) this.sessions[row] = undefined;
    this.count = 0;
    this.sourceRows = 0;
    this.heldRows = 0;
  }

  #mark(): void {
    this.fromSource[this.count - 1] = FromSource.copied;
    this.sourceRows++;
  }

  #row(op: number, session: Session, first: number, demand: number, start: number, length: number): number {
    const row = this.count++;
    this.sessions[row] = session;
    this.firstPages[row] = first;
    this.demands[row] = demand;
    this.fromSource[row] = FromSource.no;
    this.asked[row] = demand < 0 ? 0 : 1;
    const at = row * Answer.fields;
    this.values[at + Answer.slot] = session.slot;
    this.values[at + Answer.op] = op;
    this.values[at + Answer.mode] = 0;
    this.values[at + Answer.start] = start;
    this.values[at + Answer.length] = length;
    this.values[at + Answer.source] = 0;
    this.values[at + Answer.offset] = 0;
    // Not given yet, to whoever looks on.
    this.values[at + Answer.result] = 0;
    return at;
  }
}

/** Pages that an answer has made visible: an address of the client, bytes, and whether they show zeroes. */
export type GivenAnswer = readonly [start: number, length: number, zeroes: boolean];

const SHOWS = new Set<number>([AnswerOp.continue, AnswerOp.copy, AnswerOp.zeropage]);

/** What the first `rows` rows of a block have made visible, by slot. */
export function givenAnswers(values: Float64Array, rows: number): Map<number, GivenAnswer[]> {
  const given = new Map<number, GivenAnswer[]>();
  for (let at = 0; at < rows * Answer.fields; at += Answer.fields) {
    const op = values[at + Answer.op]!;
    const result = values[at + Answer.result]!;
    if (!SHOWS.has(op) || result <= 0) continue;
    const slot = values[at + Answer.slot]!;
    const length = Math.min(result, values[at + Answer.length]!);
    const ofSlot = given.get(slot) ?? [];
    ofSlot.push([values[at + Answer.start]!, length, op === AnswerOp.zeropage]);
    given.set(slot, ofSlot);
  }
  return given;
}
