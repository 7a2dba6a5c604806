// What fetch workers have read: shown where it is still wanted, tried again by itself where it could not be read.
import type { FaultDecider } from './fault-decider.js';
import type { Fetch, Fetches } from './fetches.js';
import type { PageFiller } from './page-filler.js';
import { PageState } from './page-states.js';
import { Counter } from './session-counters.js';
import type { Sessions } from './sessions.js';
import type { Settling } from './settling.js';

export interface ArrivalParts {
  readonly fetches: Fetches;
  readonly filler: PageFiller;
  readonly sessions: Sessions;
  readonly settling: Settling;
  readonly decider: FaultDecider;
  readonly faultDeadlineMs: number;
  /** A read has failed: has the source as a whole? */
  readonly readFailed: (error: string, sourceChanged: boolean) => void;
}

export class Arrivals {
  readonly #parts: ArrivalParts;
  /** Fetches whose bytes are in answers not given yet. */
  readonly #unreleased: Fetch[] = [];

  constructor(parts: ArrivalParts) {
    this.#parts = parts;
  }

  /** Plans answers for every reply that has come. */
  take(): void {
    const { fetches, sessions } = this.#parts;
    for (const { fetch, address, error, sourceChanged } of fetches.replies()) {
      const wanted = sessions.has(fetch.session);
      let planned = false;
      // What was cancelled says nothing of the source, unless it says that it has changed.
      if (error !== undefined && (wanted || sourceChanged)) this.#parts.readFailed(error, sourceChanged);
      if (wanted) {
        if (error === undefined) planned = this.#show(fetch, address);
        else this.#failed(fetch, error);
      }
      // Not before all of it is planned: a full block is given, and places are freed, in between.
      if (planned) this.#unreleased.push(fetch);
      else this.#free(fetch);
    }
  }

  /** The answers have been given: the places in the arena are free. */
  release(): void {
    if (this.#unreleased.length === 0) return;
    for (const fetch of this.#unreleased) this.#free(fetch);
    this.#unreleased.length = 0;
  }

  /** A place is free: who found none comes before what nobody waits for. */
  #free(fetch: Fetch): void {
    const { fetches, decider, settling } = this.#parts;
    fetches.release(fetch);
    for (const { session, page, minor } of decider.backlog.splice(0)) {
      const waiting = session.waiting.get(page);
      if (waiting !== undefined) waiting.queued = false;
      settling.retries.push({ session, page, minor });
    }
  }

  /** True when there are answers to be given of it. */
  #show(fetch: Fetch, address: number): boolean {
    const { session, region, first, pages, cached } = fetch;
    const { filler } = this.#parts;
    let planned = false;
    for (let page = first; page < first + pages;) {
      const run = session.states.run(PageState.fetching, page, first + pages - page);
      if (run > 0) {
        filler.show(session, region, page, run, -1, address + (page - first) * session.pageSize, cached);
        planned = true;
        page += run;
      } else {
        // Removed or poisoned while it was being fetched; if removed, whoever waits gets zeroes.
        const removed = session.states.bytes[page] === PageState.removed;
        if (removed && session.waiting.has(page)) filler.zero(session, region, page);
        page++;
      }
    }
    return planned;
  }

  /** What could not be read together is tried a page at a time where somebody waits, and then once in a while. */
  #failed(fetch: Fetch, error: string): void {
    const { session, first, pages, cached } = fetch;
    const { settling, faultDeadlineMs } = this.#parts;
    session.counters[Counter.failedReads]!++;
    for (let page = first; page < first + pages; page++) {
      if (session.states.bytes[page] !== PageState.fetching) continue;
      session.states.set(page, 1, PageState.absent);
      const waiting = session.waiting.get(page);
      if (pages === 1 && waiting !== undefined) {
        session.readFailed(page, error, faultDeadlineMs);
      } else if (pages === 1) {
        session.leaveToDeadline(page, error, faultDeadlineMs, false);
      } else if (waiting !== undefined) {
        settling.retries.push({ session, page, minor: cached });
      }
    }
  }
}
