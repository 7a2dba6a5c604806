// What to do about a page fault, decided from the state of its page: the message is only a hint.
import { UffdError } from '../errors.js';
import { AnswerOp } from '../native/contract.js';
import type { AnswerBlock } from './answer-block.js';
import type { Fetches } from './fetches.js';
import { MAX_FILL_BYTES, type PageFiller } from './page-filler.js';
import { PageState } from './page-states.js';
import type { DemandFault, FaultPolicy, PageWindow } from './policy.js';
import type { ServedRegion, Session } from './session.js';
import { NOT_BACKED, type Sessions } from './sessions.js';
import type { WorkingSetRecorder } from './working-set.js';

const FLAG_WRITE = 1;
const FLAG_WP = 2;
const FLAG_MINOR = 4;
const NOT_DELIVERED = 'the source has not delivered the page yet';

export interface DeciderParts {
  readonly answers: AnswerBlock;
  readonly filler: PageFiller;
  readonly fetches: Fetches;
  readonly sessions: Sessions;
  readonly policy: FaultPolicy;
  /** The most bytes of a fetch that somebody waits for. */
  readonly demandBytes: number;
  readonly faultDeadlineMs: number;
  /** Where it is noted what was asked for. */
  readonly recorder: WorkingSetRecorder | undefined;
  /** Why the source can no longer be trusted, once it cannot. */
  readonly sourceFailure: () => string | undefined;
  readonly flush: () => void;
}

export class FaultDecider {
  readonly #parts: DeciderParts;
  readonly #policy: FaultPolicy;
  readonly #fault: DemandFault = { session: 0, region: 0, page: 0, regionPages: 0, pageSize: 0, write: false };
  readonly #window: PageWindow = { first: 0, pages: 0 };
  /** Faults that found every place for a fetch taken; looked at again when one is free. */
  readonly backlog: { session: Session; page: number; minor: boolean }[] = [];

  constructor(parts: DeciderParts) {
    this.#parts = parts;
    this.#policy = parts.policy;
  }

  /** @param narrow the page alone, after an answer for more pages fell short */
  decide(session: Session, region: ServedRegion, page: number, flags: number, narrow: boolean): void {
    if (this.#parts.answers.full) this.#parts.flush();
    if ((flags & FLAG_WP) !== 0) {
      this.#parts.answers.add(AnswerOp.writeProtect, session, region, page, 1, page);
      return;
    }
    const minor = (flags & FLAG_MINOR) !== 0;
    switch (session.states.bytes[page]) {
      case PageState.absent:
        this.#fetch(session, region, page, flags, narrow);
        break;
      case PageState.fetching:
        // In this very batch: its answer wakes everybody. With a fetch worker: noted, for its deadline.
        if (this.#parts.fetches.underWay > 0 && this.#parts.fetches.covers(session, page)) {
          session.wait(page, session.waiting.get(page)?.failure ?? NOT_DELIVERED, this.#parts.faultDeadlineMs);
        }
        break;
      case PageState.poisoned:
        this.#parts.answers.add(AnswerOp.poison, session, region, page, 1, page);
        break;
      case PageState.resident:
        if (minor) this.#continue(session, region, page, flags, narrow);
        else if (session.backed) {
          this.#parts.sessions.park(session, NOT_BACKED);
          session.wait(page, NOT_BACKED, this.#parts.faultDeadlineMs);
        }
        // It was there and is not in the page cache any more: somebody dropped it. Never the old content.
        else this.#parts.filler.zero(session, region, page);
        break;
      default:
        // What is in the page cache has come since it was dropped, unless it was never dropped from there.
        if (minor && session.kind.behind !== 'kept')
          this.#parts.answers.add(AnswerOp.continue, session, region, page, 1, page);
        else this.#parts.filler.zero(session, region, page);
    }
  }

  #continue(session: Session, region: ServedRegion, page: number, flags: number, narrow: boolean): void {
    this.#clip(session, region, page, flags, narrow, PageState.resident, Infinity);
    this.#parts.answers.add(AnswerOp.continue, session, region, this.#window.first, this.#window.pages, page);
  }

  #fetch(session: Session, region: ServedRegion, page: number, flags: number, narrow: boolean): void {
    const { filler, fetches, faultDeadlineMs } = this.#parts;
    const before = session.waiting.get(page);
    if (before !== undefined && (before.queued || session.hopeless(page))) {
      if (before.queued || before.asleep) {
        before.asleep = true;
        return;
      }
      // It was tried for nobody's sake: whoever asks now has a deadline of his own.
      session.waiting.delete(page);
    }
    const failure = this.#parts.sourceFailure();
    if (failure !== undefined) {
      session.leaveToDeadline(page, failure, faultDeadlineMs, true);
      return;
    }
    // A MINOR fault on a page never filled: the page cache holds something (fallocate, another mapping's touch), but
    // not the source's bytes. COPY would find the page there, and CONTINUE show what is in it.
    const cached = (flags & FLAG_MINOR) !== 0;
    if (cached && !session.writable) {
      const reason =
        'the page is in the page cache with unknown content, and the memory is not sealed against shrinking';
      session.leaveToDeadline(page, reason, faultDeadlineMs, true);
      return;
    }
    const verdict = this.#verdict(session, region, page, flags);
    if (verdict !== 'fetch') {
      this.#showVerdict(session, region, page, verdict);
      return;
    }
    this.#clip(session, region, page, flags, narrow || cached, PageState.absent, MAX_FILL_BYTES / session.pageSize);
    const hole = !cached && filler.fillHole(session, region, this.#window, page, page);
    const { first, pages } = this.#window;
    if (session.recorded) this.#parts.recorder?.asked(session.offsetOf(region, first) / session.pageSize, pages);
    if (hole) return;
    if (filler.fillNow(session, region, first, pages, page, cached)) return;
    // Some of the window is not at hand, but perhaps the page itself.
    if (pages > 1 && filler.fillNow(session, region, page, 1, page, cached)) return;
    if (!fetches.available) {
      session.leaveToDeadline(page, 'the source has no bytes for the page', faultDeadlineMs, true);
      return;
    }
    const waiting = session.wait(page, before?.failure ?? NOT_DELIVERED, faultDeadlineMs);
    if (this.#request(session, region, page, cached)) return;
    waiting.queued = true;
    this.backlog.push({ session, page, minor: cached });
  }

  /** Asks for the window, or for the aligned part of it that has the page where that comes sooner. */
  #request(session: Session, region: ServedRegion, page: number, cached: boolean): boolean {
    const most = Math.max(1, this.#parts.demandBytes / session.pageSize);
    const { first, pages } = this.#window;
    const aligned = page - ((page - region.firstPage) % most);
    const from = Math.max(first, aligned);
    const count = Math.min(first + pages, aligned + most) - from;
    if (!this.#parts.fetches.request(session, region, from, count, cached)) return false;
    session.states.set(from, count, PageState.fetching);
    return true;
  }

  /** Plans to make the page what the policy says it is. */
  #showVerdict(session: Session, region: ServedRegion, page: number, verdict: 'zero' | 'poison'): void {
    if (verdict === 'zero') this.#parts.filler.zero(session, region, page);
    else this.#parts.answers.add(AnswerOp.poison, session, region, page, 1, page);
  }

  #verdict(session: Session, region: ServedRegion, page: number, flags: number): 'fetch' | 'zero' | 'poison' {
    if (this.#policy.decide === undefined) return 'fetch';
    this.#describe(session, region, page, flags);
    const verdict = this.#policy.decide(this.#fault) as string;
    if (verdict === 'fetch' || verdict === 'zero' || verdict === 'poison') return verdict;
    throw new UffdError('ERR_INVALID_ARGUMENT', `the policy decided '${verdict}': fetch, zero and poison are known`);
  }

  /**
   * For pages nobody has asked for: how many from `first` on are to be fetched, at most `pages`. 0 when the first is not;
   * then it has been planned to be what it is.
   */
  fetchable(session: Session, region: ServedRegion, first: number, pages: number): number {
    if (this.#policy.decide === undefined) return pages;
    for (let page = first; page < first + pages; page++) {
      const verdict = this.#verdict(session, region, page, 0);
      if (verdict === 'fetch') continue;
      if (page === first) this.#showVerdict(session, region, page, verdict);
      return page - first;
    }
    return pages;
  }

  /** Sets the window to what the policy brings along: of that state, connected to the page, at most `limit` pages. */
  #clip(
    session: Session,
    region: ServedRegion,
    page: number,
    flags: number,
    narrow: boolean,
    state: number,
    limit: number,
  ): void {
    const window = this.#window;
    window.first = page;
    window.pages = 1;
    if (narrow || this.#policy.bringAlong === undefined) return;
    window.first = page - region.firstPage;
    this.#describe(session, region, page, flags);
    this.#policy.bringAlong(this.#fault, window);
    const wantedFirst = Math.max(0, window.first) + region.firstPage;
    const wantedEnd = Math.min(region.pages, window.first + window.pages) + region.firstPage;
    window.first = wantedFirst;
    window.pages = wantedEnd - wantedFirst;
    // Of a page whose neighbours are known to be wanted or not, only those that are.
    if (state === PageState.absent) session.aheadOf.narrow(page, window);
    this.#narrowToRun(session, region, page, state, limit);
  }

  /** Narrows the window to the run of pages in that state around the page: at most `limit`, those after it first. */
  #narrowToRun(session: Session, region: ServedRegion, page: number, state: number, limit: number): void {
    const window = this.#window;
    const states = session.states.bytes;
    // A page that comes along is what the policy says of it, not what its neighbour is.
    const asks = state === PageState.absent && this.#policy.decide !== undefined;
    const lastEnd = Math.min(window.first + window.pages, page + limit);
    let end = page + 1;
    while (end < lastEnd && states[end] === state && (!asks || this.#fetched(session, region, end))) end++;
    const leastFirst = Math.max(window.first, end - limit);
    let first = page;
    while (first > leastFirst && states[first - 1] === state && (!asks || this.#fetched(session, region, first - 1)))
      first--;
    window.first = first;
    window.pages = end - first;
  }

  #fetched(session: Session, region: ServedRegion, page: number): boolean {
    return this.#verdict(session, region, page, 0) === 'fetch';
  }

  #describe(session: Session, region: ServedRegion, page: number, flags: number): void {
    const fault = this.#fault;
    fault.session = session.id;
    fault.region = region.index;
    fault.page = page - region.firstPage;
    fault.regionPages = region.pages;
    fault.pageSize = session.pageSize;
    fault.write = (flags & FLAG_WRITE) !== 0;
  }
}
