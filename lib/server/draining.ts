// Filling everything that is absent, behind demand: what a server owes its clients before it may go away.
import { messageOf } from '../errors.js';
import { AnswerOp } from '../native/contract.js';
import type { RegisterModeName } from '../memory/kinds/kind.js';
import { registerMask } from '../userfaultfd/features.js';
import type { AnswerBlock } from './answer-block.js';
import type { Fetches } from './fetches.js';
import { MAX_FILL_BYTES } from './page-filler.js';
import { PageState } from './page-states.js';
import type { ServedRegion, Session } from './session.js';
import type { Sessions } from './sessions.js';
import type { Unasked } from './unasked.js';
import type { WatchedQueue } from './watched-queue.js';

/** As many answers, of less than a microsecond each. */
const DROPPED_PER_STEP = 512;
/** As many questions, of less than half a microsecond each. */
const ASKED_PER_STEP = 1024;
/** As many calls. */
const UNREGISTERED_PER_STEP = 512;
const EBUSY = -16;

export interface DrainingParts {
  readonly queue: WatchedQueue;
  readonly answers: AnswerBlock;
  readonly unasked: Unasked;
  readonly fetches: Fetches;
  readonly sessions: Sessions;
  readonly faultDeadlineMs: number;
  /** The most bytes of a fetch that nobody waits for. */
  readonly backgroundBytes: number;
  readonly sourceFailure: () => string | undefined;
  /** Does what the policy says about pages that will never come; true when there is more to do. */
  readonly giveUp: (session: Session, reason: string) => boolean;
  readonly flush: () => void;
}

export class Draining {
  readonly #parts: DrainingParts;
  readonly #answers: AnswerBlock;

  constructor(parts: DrainingParts) {
    this.#parts = parts;
    this.#answers = parts.answers;
  }

  /** One step for each session that is to be completed. True when there is more to do at once. */
  round(): boolean {
    const { sessions, fetches, sourceFailure, giveUp } = this.#parts;
    const failure = sourceFailure();
    let progress = false;
    for (const session of sessions.toDrain) {
      if (session.parked !== undefined) continue;
      if (session.leaving) {
        this.#leave(session);
        progress = true;
      } else if (failure === undefined && !fetches.fullBehindDemand(session) && this.#step(session)) {
        progress = true;
      } else if (failure !== undefined && giveUp(session, failure)) {
        progress = true;
      } else if (session.kind.behind === 'kept' && this.#zeroDropped(session)) {
        progress = true;
      } else if (this.#answers.count > 0) {
        // What is planned is given first: then it shows whether that was all.
        progress = true;
      } else if (this.#complete(session)) {
        this.#finish(session);
        progress = true;
      }
    }
    return progress;
  }

  /** Plans the next fill of the session. False when there is nothing to plan now: all is filled, or on its way. */
  #step(session: Session): boolean {
    let page = this.#next(session, session.drainCursor);
    // Once more from the start: answers that fell short have left absent pages behind.
    if (page < 0) page = this.#next(session, 0);
    if (page < 0) return false;
    const region = session.regionOfPage(page);
    if (session.unmapped && this.#passUnmapped(session, region, page)) return true;
    if (this.#isAnothers(session, region, page)) {
      this.#parts.sessions.detach(session, 'gone');
      return true;
    }
    const { fetches, backgroundBytes } = this.#parts;
    const most = Math.max(1, (fetches.available ? backgroundBytes : MAX_FILL_BYTES) / session.pageSize);
    const limit = Math.min(most, region.firstPage + region.pages - page);
    // At a page that fell short before, one at a time.
    const again = page < session.drainCursor;
    const pages = again ? 1 : session.states.run(PageState.absent, page, limit);
    try {
      const cached = again && session.writable;
      const done = this.#parts.unasked.fill(session, region, page, pages, { cached, mayFetch: true, direct: !again });
      session.drainCursor = Math.max(session.drainCursor, page + done);
      return done > 0;
    } catch (error) {
      // A source of the user's that throws: page by page in the end, and then once in every deadline.
      session.drainCursor = Math.max(session.drainCursor, page + pages);
      if (pages === 1) session.leaveToDeadline(page, messageOf(error), this.#parts.faultDeadlineMs, false);
      return true;
    }
  }

  /**
   * Absent pages from `page` on that are not registered any more: there is nothing to complete, and nothing to be read.
   * False when that one is.
   */
  #passUnmapped(session: Session, region: ServedRegion, page: number): boolean {
    const limit = Math.min(ASKED_PER_STEP, region.firstPage + region.pages - page);
    const absent = session.states.run(PageState.absent, page, limit);
    const address = session.addressOf(region, page);
    const pages = this.#parts.queue.unregisteredBefore(session.slot, address, session.pageSize, absent);
    if (pages <= 0) return false;
    session.states.set(page, pages, PageState.removed);
    session.drainCursor = Math.max(session.drainCursor, page + pages);
    return true;
  }

  /**
   * Where an orphan's memory was there may be other memory by now, registered with another userfaultfd: UFFDIO_COPY does not
   * ask whose it is, UFFDIO_REGISTER does, and changes nothing of what is ours.
   */
  #isAnothers(session: Session, region: ServedRegion, page: number): boolean {
    const { queue, sessions } = this.#parts;
    if (!sessions.orphans.has(session)) return false;
    const address = session.addressOf(region, page);
    if (queue.unregisteredBefore(session.slot, address, session.pageSize, 1) > 0) return false;
    const modes = session.fill === 'continue' ? (['missing', 'minor'] as const) : (['missing'] as const);
    const register = (more: readonly RegisterModeName[]) =>
      queue.register(session.slot, address, session.pageSize, registerMask([...modes, ...more]));
    if (register([]) !== EBUSY) return false;
    // Since Linux 7.3 it is EBUSY too to take protection away from what is ours.
    return !([['wp'], ['rwp']] as const).some((more) => typeof register(more) === 'bigint');
  }

  /** Pages that the client has dropped would show what is behind them once nobody is asked any more. */
  #zeroDropped(session: Session): boolean {
    let page = session.states.next(PageState.removed, 0, session.pages);
    for (let planned = 0; page >= 0 && planned < DROPPED_PER_STEP && !this.#answers.full; planned++) {
      this.#answers.add(AnswerOp.zeropage, session, session.regionOfPage(page), page, 1, -1);
      page = session.states.next(PageState.removed, page + 1, session.pages);
    }
    return this.#answers.count > 0;
  }

  #next(session: Session, from: number): number {
    let page = session.states.next(PageState.absent, from, session.pages);
    while (page >= 0 && session.hopeless(page)) page = session.states.next(PageState.absent, page + 1, session.pages);
    return page;
  }

  /** Every page has content, and nobody waits. */
  #complete(session: Session): boolean {
    const { states, pages } = session;
    return (
      session.waiting.size === 0 &&
      states.next(PageState.absent, 0, pages) < 0 &&
      states.next(PageState.fetching, 0, pages) < 0 &&
      (session.kind.behind !== 'kept' || states.next(PageState.removed, 0, pages) < 0)
    );
  }

  /**
   * What came between the last answers and UNREGISTER has been read in this round, unless the kernel says otherwise: then
   * a thread of the client sleeps until it is. Nothing more comes after it.
   */
  #leave(session: Session): void {
    if (session.unregisteredPages < session.pages) {
      this.#unregisterByPage(session);
      return;
    }
    const [region] = session.regions;
    if (region !== undefined) this.#answers.add(AnswerOp.writeProtect, session, region, region.firstPage, 1, -1);
    this.#parts.flush();
    if (session.left || region === undefined) this.#parts.sessions.detach(session, 'drained');
  }

  #unregisterByPage(session: Session): void {
    const end = Math.min(session.pages, session.unregisteredPages + UNREGISTERED_PER_STEP);
    for (; session.unregisteredPages < end; session.unregisteredPages++) {
      const page = session.unregisteredPages;
      if (this.#answers.full) this.#parts.flush();
      this.#answers.add(AnswerOp.unregister, session, session.regionOfPage(page), page, 1, -1);
      this.#answers.add(AnswerOp.wake, session, session.regionOfPage(page), page, 1, -1);
    }
    this.#parts.flush();
  }

  /** Plans the end: UNREGISTER, then WAKE, which UNREGISTER alone does not do for those who wait for a MINOR fault. */
  #finish(session: Session): void {
    session.leaving = true;
    for (const region of session.regions) {
      if (this.#answers.full) this.#parts.flush();
      this.#answers.add(AnswerOp.unregister, session, region, region.firstPage, region.pages, -1);
      this.#answers.add(AnswerOp.wake, session, region, region.firstPage, region.pages, -1);
    }
  }
}
