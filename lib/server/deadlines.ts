// What happens to faults that could not be answered in time: nobody waits for ever without a word.
import { AnswerOp } from '../native/contract.js';
import type { AnswerBlock } from './answer-block.js';
import type { Fetches } from './fetches.js';
import type { FailurePolicy, FromServing } from './messages.js';
import { PageState } from './page-states.js';
import { MAX_ATTEMPTS, type Session, type Waiting } from './session.js';
import type { Sessions } from './sessions.js';

/** Of a session that is poisoned as a whole, or in all its absent pages: about two milliseconds of answers. */
const PAGES_PER_CHECK = 8192;

export interface DeadlineParts {
  readonly answers: AnswerBlock;
  readonly sessions: Sessions;
  readonly fetches: Fetches;
  readonly onFailure: FailurePolicy;
  readonly post: (message: FromServing) => void;
  readonly flush: () => void;
}

export class Deadlines {
  readonly #parts: DeadlineParts;
  /** Up to which page a session has been given up; see `giveUp`. */
  readonly #givenUp = new WeakMap<Session, { nextPage: number }>();

  constructor(parts: DeadlineParts) {
    this.#parts = parts;
  }

  /** Acts on everything that is due. */
  check(now: number): void {
    const { attention, unreadable } = this.#parts.sessions;
    for (const session of attention) {
      if (session.waiting.size === 0 && session.strays.size === 0) attention.delete(session);
      else this.#checkSession(session, now);
    }
    for (const [session, progress] of unreadable) {
      if (progress.at <= now && this.#actOnAll(session, progress)) unreadable.delete(session);
    }
  }

  /**
   * The server is to go away, and what is absent will never come: nobody waits for it, neither now nor later. It stays
   * registered all the same: a page that could not be poisoned must not be seen as zeroes. True when there is more to do.
   */
  giveUp(session: Session, reason: string): boolean {
    const { onFailure, answers, post } = this.#parts;
    let progress = this.#givenUp.get(session);
    if (progress === undefined) {
      progress = { nextPage: 0 };
      this.#givenUp.set(session, progress);
      if (session.states.next(PageState.absent, 0, session.pages) >= 0)
        post({ type: 'unserved', session: session.id, action: onFailure, page: -1, reason });
    }
    if (onFailure !== 'poison' || progress.nextPage >= session.pages) return false;
    const end = Math.min(session.pages, progress.nextPage + PAGES_PER_CHECK);
    for (; progress.nextPage < end; progress.nextPage++) {
      const page = progress.nextPage;
      if (session.states.bytes[page] !== PageState.absent) continue;
      if (answers.full) this.#parts.flush();
      answers.addStray(AnswerOp.poison, session, session.addressOf(session.regionOfPage(page), page));
    }
    return true;
  }

  #checkSession(session: Session, now: number): void {
    for (const [page, waiting] of session.waiting) {
      if (waiting.deadline > now) this.#tryAgain(session, page, waiting, now);
      else if (waiting.asleep) this.#act(session, page, waiting);
      else session.waiting.delete(page);
    }
    for (const [address, waiting] of session.strays) {
      if (waiting.deadline <= now) this.#actOnStray(session, address, waiting);
    }
  }

  /**
   * What was short may be there again, memory, huge pages or a source that could not be read: one more attempt, once in
   * every check, until the deadline. Who is left to stall stays where another attempt can help.
   */
  #tryAgain(session: Session, page: number, waiting: Waiting, now: number): void {
    const { attempts, notBefore, deadline, owed } = waiting;
    if (attempts < MAX_ATTEMPTS || attempts === Infinity || notBefore > now) return;
    if (deadline === Infinity && this.#parts.onFailure !== 'stall') return;
    waiting.attempts = MAX_ATTEMPTS - 1;
    // Draining comes to it by itself.
    if (owed || session.parked !== undefined) return;
    // The waiter's own next message says whether it is a MINOR fault by now.
    waiting.asleep = false;
    const { answers } = this.#parts;
    if (answers.full) this.#parts.flush();
    answers.add(AnswerOp.wake, session, session.regionOfPage(page), page, 1, -1);
  }

  /** UFFDIO_POISON does not exist here: left to stall, with a word. */
  cannotPoison(session: Session, page: number): void {
    const waiting = session.waiting.get(page);
    if (waiting !== undefined) waiting.deadline = Infinity;
    const reason = `UFFDIO_POISON needs Linux 6.6; ${waiting?.reason ?? 'the policy asked for it'}`;
    this.#parts.post({ type: 'unserved', session: session.id, action: 'stall', page, reason });
  }

  #act(session: Session, page: number, waiting: Waiting): void {
    waiting.deadline = Infinity;
    const { onFailure, answers, post } = this.#parts;
    if (onFailure !== 'poison') {
      post({ type: 'unserved', session: session.id, action: onFailure, page, reason: waiting.reason });
      return;
    }
    // The source has had its time: what comes along is asked for again, by whoever wants it.
    this.#parts.fetches.cancel(session, page);
    if (answers.full) this.#parts.flush();
    answers.add(AnswerOp.poison, session, session.regionOfPage(page), page, 1, page);
  }

  #actOnStray(session: Session, address: number, waiting: Waiting): void {
    waiting.deadline = Infinity;
    const { onFailure, answers, post } = this.#parts;
    if (onFailure === 'poison') {
      if (answers.full) this.#parts.flush();
      answers.addStray(AnswerOp.poison, session, address);
      // Whoever comes to it once more is told of once more.
      session.strays.delete(address);
    }
    post({ type: 'unserved', session: session.id, action: onFailure, page: -1, reason: waiting.reason });
  }

  /** Poisons every page, so many at a time: others are served meanwhile. True when all is done. */
  #actOnAll(session: Session, progress: { nextPage: number }): boolean {
    const { onFailure, answers, post } = this.#parts;
    if (progress.nextPage === 0) {
      const reason = session.parked ?? 'unreadable';
      post({ type: 'unserved', session: session.id, action: onFailure, page: -1, reason });
    }
    if (onFailure !== 'poison') return true;
    const end = Math.min(session.pages, progress.nextPage + PAGES_PER_CHECK);
    for (; progress.nextPage < end; progress.nextPage++) {
      const page = progress.nextPage;
      if (session.states.bytes[page] === PageState.poisoned) continue;
      if (answers.full) this.#parts.flush();
      answers.addStray(AnswerOp.poison, session, session.addressOf(session.regionOfPage(page), page));
    }
    return end === session.pages;
  }
}
