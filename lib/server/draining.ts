// Filling everything that is absent, behind demand: what a server owes its clients before it may go away.
import { messageOf } from '../errors.js';
import { AnswerOp } from '../native/contract.js';
import type { AnswerBlock } from './answer-block.js';
import { MAX_FILL_BYTES } from './page-filler.js';
import { PageState } from './page-states.js';
import type { Session } from './session.js';
import type { Unasked } from './unasked.js';

export interface DrainingParts {
  readonly answers: AnswerBlock;
  readonly unasked: Unasked;
  readonly faultDeadlineMs: number;
  readonly flush: () => void;
}

export class Draining {
  readonly #answers: AnswerBlock;
  readonly #unasked: Unasked;
  readonly #faultDeadlineMs: number;
  readonly #flush: () => void;

  constructor(parts: DrainingParts) {
    this.#answers = parts.answers;
    this.#unasked = parts.unasked;
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
    const pages = again ? 1 : session.states.run(PageState.absent, page, limit);
    try {
      const cached = again && session.writable;
      const done = this.#unasked.fill(session, region, page, pages, { cached, mayFetch: true });
      session.drainCursor = Math.max(session.drainCursor, page + done);
      return done > 0;
    } catch (error) {
      // A source of the user's that throws: page by page in the end, and then once in every deadline.
      session.drainCursor = Math.max(session.drainCursor, page + pages);
      if (pages === 1) session.leaveToDeadline(page, messageOf(error), this.#faultDeadlineMs, false);
      return true;
    }
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
