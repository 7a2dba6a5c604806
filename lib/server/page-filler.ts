// Getting the bytes of absent pages to where the kernel shows them: reads what the source has at once, plans the
// answers that show it.
import { native } from '../native/load.js';
import { AnswerOp } from '../native/contract.js';
import { type AnswerBlock, MAX_PIECES } from './answer-block.js';
import type { PageSource, SourceExtent } from './page-source.js';
import { PageState } from './page-states.js';
import type { PageWindow } from './policy.js';
import type { ServedRegion, Session } from './session.js';

/** Largest page a session may have, and most bytes of one answer from the source. */
export const MAX_FILL_BYTES = 2 * 2 ** 20;
/** Most bytes of one answer with them: several answers, which the thread that gives them shares with a second one. */
const PIECE_BYTES = MAX_FILL_BYTES / MAX_PIECES;

export class PageFiller {
  readonly #source: PageSource | undefined;
  readonly #sourceSize: number;
  readonly #answers: AnswerBlock;
  readonly #flush: () => void;
  // Between the source and the page: a file can shrink or change while it is read, and only bytes that have been
  // checked afterwards may become visible.
  readonly #bounce = new Uint8Array(new SharedArrayBuffer(MAX_FILL_BYTES));
  readonly #bounceAddress = native().addressOf(this.#bounce);
  readonly #zeroes = new Uint8Array(new SharedArrayBuffer(MAX_FILL_BYTES));
  readonly #extent: SourceExtent = { start: 0, end: 0 };
  #used = 0;

  constructor(source: PageSource | undefined, sourceSize: number, answers: AnswerBlock, flush: () => void) {
    this.#source = source;
    this.#sourceSize = sourceSize;
    this.#answers = answers;
    this.#flush = flush;
  }

  /**
   * Plans to fill pages of one region if the source has their bytes at once; false when it has not.
   * @param direct whether they may be shown from where the source has them; otherwise an EFAULT is never for their sake
   */
  fillNow(
    session: Session,
    region: ServedRegion,
    first: number,
    pages: number,
    demand: number,
    cached: boolean,
    direct = true,
  ): boolean {
    if (this.#source === undefined) return false;
    // Before anything is read: what has been planned may lie where it will be read to.
    if (this.#answers.full) this.#flush();
    const length = pages * session.pageSize;
    const address = direct ? (this.#source.addressNow?.(length, session.offsetOf(region, first)) ?? 0) : 0;
    if (address > 0) {
      const from = this.#answers.count;
      this.show(session, region, first, pages, demand, address, cached);
      this.#answers.hold(from);
      return true;
    }
    if (this.#source.readNow === undefined) return false;
    if (this.#used + length > MAX_FILL_BYTES) this.#flush();
    const at = this.#used;
    const offset = session.offsetOf(region, first);
    const available = Math.min(length, this.#sourceSize - offset);
    if (!this.#source.readNow(this.#bounce, at, available, offset)) return false;
    if (available < length) this.#bounce.fill(0, at + available, at + length);
    this.#used += length;
    this.show(session, region, first, pages, demand, this.#bounceAddress + at, cached);
    return true;
  }

  /**
   * Plans to show bytes of the source that lie at an address.
   * @param demand the faulting page, or -1: then whoever is noted to wait for one of the pages is not forgotten when the
   *   answer falls short
   * @param cached the page cache holds the page already
   */
  show(
    session: Session,
    region: ServedRegion,
    first: number,
    pages: number,
    demand: number,
    address: number,
    cached: boolean,
  ): void {
    if (this.#answers.full) this.#flush();
    const pagesPerPiece = Math.max(1, PIECE_BYTES / session.pageSize);
    const end = first + pages;
    for (let at = first; at < end; at += pagesPerPiece) {
      const count = Math.min(pagesPerPiece, end - at);
      // Whom a piece without the faulting page falls short of can only be found out by trying its first page alone.
      const elsewhere = demand >= 0 && (demand < at || demand >= at + count);
      const asked = elsewhere ? at : demand < 0 ? session.waitedFor(at, count) : demand;
      this.#piece(session, region, at, count, asked, address + (at - first) * session.pageSize, cached);
      if (elsewhere) this.#answers.standsIn();
    }
  }

  #piece(
    session: Session,
    region: ServedRegion,
    first: number,
    pages: number,
    demand: number,
    address: number,
    cached: boolean,
  ): void {
    session.states.set(first, pages, PageState.fetching);
    if (cached || session.fill === 'continue') {
      this.#answers.addWrite(session, region, first, pages, demand, address);
      this.#answers.add(AnswerOp.continue, session, region, first, pages, demand);
    } else {
      this.#answers.addCopy(session, region, first, pages, demand, address);
    }
  }

  /**
   * Plans to show zeroes where the source has a hole at the page, and narrows `window` around it to what is of the same
   * kind. True when it was a hole.
   */
  fillHole(session: Session, region: ServedRegion, window: PageWindow, page: number, demand: number): boolean {
    if (this.#source?.extentOf === undefined) return false;
    const { pageSize } = session;
    const hole = this.#source.extentOf(session.offsetOf(region, page), pageSize, this.#extent);
    const pageOf = (offset: number) => region.firstPage + (offset - region.offset) / pageSize;
    const first = Math.max(window.first, pageOf(this.#extent.start));
    window.pages = Math.min(window.first + window.pages, pageOf(this.#extent.end)) - first;
    window.first = first;
    if (!hole) return false;
    if (this.#answers.full) this.#flush();
    session.states.set(first, window.pages, PageState.fetching);
    this.#answers.addHole(session, region, first, window.pages, demand, native().addressOf(this.#zeroes));
    return true;
  }

  /** Plans to show a page of zeroes. */
  zero(session: Session, region: ServedRegion, page: number): void {
    if (this.#answers.full) this.#flush();
    if ('since' in session.kind.answers.zeropage) this.#answers.add(AnswerOp.zeropage, session, region, page, 1, page);
    else this.#answers.addZeroCopy(session, region, page, 1, page, native().addressOf(this.#zeroes));
  }

  /** The answers have been given: the bytes are free to be overwritten. */
  reset(): void {
    this.#used = 0;
  }
}
