// Pages brought before anybody asks for them, a step at a time and behind demand: the working set of earlier runs, then,
// if that is wanted, everything.
import type { Fetches } from './fetches.js';
import type { Measures } from './measures.js';
import type { ServingOptions } from './messages.js';
import { MAX_FILL_BYTES } from './page-filler.js';
import { PageRanges, rangesOf } from './page-ranges.js';
import { PageState } from './page-states.js';
import type { Session } from './session.js';
import type { Sessions } from './sessions.js';
import type { Unasked } from './unasked.js';
import type { WorkingSetRecorder } from './working-set.js';

/** While faults come: what a fault that comes now waits for at most, some tens of microseconds. */
const STEP_UNDER_DEMAND_BYTES = 256 * 1024;
/** The same of the working set, each page of which will be a fault if it does not come: some tenths of a millisecond. */
const STEP_OF_WORKING_SET_BYTES = 1024 * 1024;
/** Parts of the working set in one step: as many answers, of a microsecond or two each. */
const PARTS_PER_STEP = 256;
/** Without a fault for so long, nobody seems to be waiting. */
const QUIET_MS = 2;
/** Pages that are there already and are passed over in one step. */
const LOOKED_AT_PER_STEP = 65_536;

export interface AheadParts {
  readonly unasked: Unasked;
  readonly fetches: Fetches;
  readonly sessions: Sessions;
}

export class Ahead {
  readonly #parts: AheadParts;
  #lastDemand = 0;

  constructor(parts: AheadParts) {
    this.#parts = parts;
  }

  /**
   * Plans a step of one session, of the next one at the next call. True when there is more to do at once.
   * @param demand faults have come since the last step
   */
  step(demand: boolean): boolean {
    const { ahead } = this.#parts.sessions;
    if (demand) this.#lastDemand = performance.now();
    for (const session of ahead) {
      if (this.#ended(session)) {
        ahead.delete(session);
        continue;
      }
      const progress = this.#stepOf(session);
      // Giving answers on the way may have taken so long that it is another worker's now.
      if (!this.#parts.sessions.has(session)) return true;
      if (!progress) continue;
      ahead.delete(session);
      ahead.add(session);
      return true;
    }
    return false;
  }

  #ended(session: Session): boolean {
    return session.parked !== undefined || session.aheadOf.ended || this.#parts.sessions.toDrain.has(session);
  }

  /** False when nothing can be done now: what is next has to be fetched. */
  #stepOf(session: Session): boolean {
    const quiet = performance.now() - this.#lastDemand > QUIET_MS;
    const underDemand = session.aheadOf.wanted ? STEP_OF_WORKING_SET_BYTES : STEP_UNDER_DEMAND_BYTES;
    let pages = Math.max(1, (quiet ? MAX_FILL_BYTES : underDemand) / session.pageSize);
    for (let part = 0; part < PARTS_PER_STEP && pages > 0 && !session.aheadOf.ended; part++) {
      const done = this.#part(session, pages);
      if (done === 0) return part > 0;
      pages -= done;
    }
    return true;
  }

  /** How much was done of at most so many pages: brought, planned to be, or found to be there. */
  #part(session: Session, most: number): number {
    const { unasked, fetches } = this.#parts;
    const cursor = session.aheadOf;
    const page = cursor.next(session.states.bytes, PageState.absent, LOOKED_AT_PER_STEP);
    if (page < 0) return most;
    const region = session.regionOfPage(page);
    const limit = Math.min(most, cursor.end - page, region.firstPage + region.pages - page);
    const pages = session.states.run(PageState.absent, page, limit);
    // One read for this at a time: demand finds the other places free.
    const mayFetch = fetches.underWay === 0;
    try {
      const done = unasked.fill(session, region, page, pages, { cached: false, mayFetch });
      if (done > 0 || !fetches.available) cursor.pass(page + Math.max(1, done));
      return done;
    } catch {
      // User code that throws: whoever asks for the page gets its reason.
      cursor.pass(page + pages);
      return pages;
    }
  }
}

/** Says of a new session what is to be brought to it, and whether what it asks for is recorded. */
export function preparation(
  { replay, backgroundFill }: ServingOptions,
  recorder: WorkingSetRecorder | undefined,
  measures: Measures | undefined,
): (session: Session) => void {
  return (session) => {
    session.measures = measures;
    session.recorded = recorder?.takes(session.pageSize) === true;
    const fits = replay?.pageSize === session.pageSize;
    const bounds = fits ? rangesOf(session.regions, replay.extents, session.pageSize) : [];
    const wanted = bounds.length;
    if (backgroundFill) bounds.push(0, session.pages);
    session.aheadOf = new PageRanges(bounds, wanted);
  };
}
