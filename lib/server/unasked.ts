// Filling pages that nobody waits for: before they are asked for, or because the server is to go away.
import type { FaultDecider } from './fault-decider.js';
import type { Fetches } from './fetches.js';
import type { PageFiller } from './page-filler.js';
import { PageState } from './page-states.js';
import type { PageWindow } from './policy.js';
import type { ServedRegion, Session } from './session.js';

export interface UnaskedParts {
  readonly filler: PageFiller;
  readonly fetches: Fetches;
  readonly decider: FaultDecider;
}

export class Unasked {
  readonly #parts: UnaskedParts;
  readonly #window: PageWindow = { first: 0, pages: 0 };

  constructor(parts: UnaskedParts) {
    this.#parts = parts;
  }

  /**
   * Plans what becomes of absent pages from `page` on, at most `wanted`.
   * @param how.cached the page cache may hold the page already, with unknown content
   * @param how.mayFetch whether a fetch worker may be asked for what is not at hand
   * @param how.direct see `PageFiller.fillNow`
   * @returns of how many; 0 when their bytes have to be fetched, and nobody can be asked for them now
   */
  fill(
    session: Session,
    region: ServedRegion,
    page: number,
    wanted: number,
    { cached, mayFetch, direct = true }: { cached: boolean; mayFetch: boolean; direct?: boolean },
  ): number {
    const { filler, fetches, decider } = this.#parts;
    const pages = decider.fetchable(session, region, page, wanted);
    if (pages === 0) return 1;
    const window = this.#window;
    window.first = page;
    window.pages = pages;
    if (!cached && filler.fillHole(session, region, window, page, -1)) return window.first + window.pages - page;
    // Narrowed to one kind of bytes around the page; what is before it is somebody else's.
    const count = window.first + window.pages - page;
    if (filler.fillNow(session, region, page, count, -1, cached, direct)) return count;
    if (!mayFetch || !fetches.available || !fetches.request(session, region, page, count, cached)) return 0;
    session.states.set(page, count, PageState.fetching);
    return count;
  }
}
