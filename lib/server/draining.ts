// Filling everything that is absent, behind demand: what a server owes its clients before it may go away.
import { messageOf } from '../errors.js';
import { AnswerOp } from '../native/contract.js';
import type { AnswerBlock } from './answer-block.js';
import type { FaultDecider } from './fault-decider.js';
import type { Fetches } from './fetches.js';
import { MAX_FILL_BYTES, type PageFiller } from './page-filler.js';
import { PageState } from './page-states.js';
import type { PageWindow } from './policy.js';
import type { ServedRegion, Session } from './session.js';

export interface DrainingParts {
  readonly answers: AnswerBlock;
  readonly filler: PageFiller;
  readonly fetches: Fetches;
  readonly decider: FaultDecider;
  readonly faultDeadlineMs: number;
  readonly flush: () => void;
}

export class Draining {
  readonly #answers: AnswerBlock;
  readonly #filler: PageFiller;
  readonly #fetches: Fetches;
  readonly #decider: FaultDecider;
  readonly #faultDeadlineMs: number;
  readonly #flush: () => void;
  readonly #window: PageWindow = { first: 0, pages: 0 };

  constructor(parts: DrainingParts) {
    this.#answers = parts.answers;
    this.#filler = parts.filler;
    this.#fetches = parts.fetches;
    this.#decider = parts.decider;
    this.#faultDeadlineMs = parts.faultDeadlineMs;
    this.#flush = parts.flush;
  }

  /** Plans the next fill of the session. False when there is nothing to plan now: all is filled, or on its way. */
  step(session: Session): boolean {
    let page = this.#next(session, session.drainCursor);
    // Once more from the start: answers that fell short have left absent pages behind.
    if (page < 0) page = this.#next(session, 0);
    if (page < 0) return false;
    const region = session.regionOfPage(page);
    const limit = Math.min(MAX_FILL_BYTES / session.pageSize, region.firstPage + region.pages - page);
    // At a page that fell short before, one at a time.
    const again = page < session.drainCursor;
    const run = again ? 1 : session.states.run(PageState.absent, page, limit);
    let pages = run;
    try {
      pages = this.#decider.fetchable(session, region, page, run);
      session.drainCursor = Math.max(session.drainCursor, page + Math.max(1, pages));
      if (pages === 0) return true;
      return this.#fill(session, region, page, pages, again && session.writable);
    } catch (error) {
      // A source of the user's that throws: page by page in the end, and then once in every deadline.
      session.drainCursor = Math.max(session.drainCursor, page + pages);
      if (pages === 1) session.leaveToDeadline(page, messageOf(error), this.#faultDeadlineMs, false);
      return true;
    }
  }

  #fill(session: Session, region: ServedRegion, page: number, wanted: number, cached: boolean): boolean {
    this.#window.first = page;
    this.#window.pages = wanted;
    if (!cached && this.#filler.fillHole(session, region, this.#window, page, -1)) return true;
    const { pages } = this.#window;
    if (this.#filler.fillNow(session, region, page, pages, -1, cached)) return true;
    if (!this.#fetches.available || !this.#fetches.request(session, region, page, pages, cached)) return false;
    session.states.set(page, pages, PageState.fetching);
    return true;
  }

  #next(session: Session, from: number): number {
    let page = session.states.next(PageState.absent, from, session.pages);
    while (page >= 0 && session.hopeless(page)) page = session.states.next(PageState.absent, page + 1, session.pages);
    return page;
  }

  /** Every page has content, and nobody waits. */
  complete(session: Session): boolean {
    const { states, pages } = session;
    return (
      session.waiting.size === 0 &&
      states.next(PageState.absent, 0, pages) < 0 &&
      states.next(PageState.fetching, 0, pages) < 0
    );
  }

  /** Plans to find out whether an event is still unread; none comes any more once there is none. */
  probe(session: Session): void {
    const [region] = session.regions;
    if (region !== undefined) this.#answers.add(AnswerOp.unprotect, session, region, region.firstPage, 1, -1);
  }

  /** Plans the end: UNREGISTER, then WAKE, which UNREGISTER alone does not do for those who wait for a MINOR fault. */
  finish(session: Session): void {
    session.leaving = true;
    for (const region of session.regions) {
      if (this.#answers.full) this.#flush();
      this.#answers.add(AnswerOp.unregister, session, region, region.firstPage, region.pages, -1);
      this.#answers.add(AnswerOp.wake, session, region, region.firstPage, region.pages, -1);
    }
  }
}
