// What to bring along with a faulting page, and whether to serve it at all.

/** What a policy knows of a demand fault. One object, used again for every fault: copy what is kept. */
export interface DemandFault {
  /** Number of the session, as in the server's events. */
  session: number;
  /** Index of the mapping in the handshake, and page in it. */
  region: number;
  page: number;
  /** Pages of the region, and bytes of each. */
  regionPages: number;
  pageSize: number;
  write: boolean;
}

/** Pages to bring in; clipped to the region, to absent pages, and to what lies next to the faulting page. */
export interface PageWindow {
  first: number;
  pages: number;
}

/** Runs in the serving worker, between a fault and its answer: it must neither block nor allocate much. */
export interface FaultPolicy {
  /** Sets `window` around the faulting page; it comes as that page alone. */
  bringAlong?(fault: Readonly<DemandFault>, window: PageWindow): void;
  /** What an absent page is: `fetch` it from the source (the default), `zero`, or `poison` (its access fails). */
  decide?(fault: Readonly<DemandFault>): 'fetch' | 'zero' | 'poison';
}

/** The default: an aligned window of `pages` pages around each fault. */
export function faultAround(pages: number): FaultPolicy {
  return pages === 1 ? {} : new FaultAround(pages);
}

class FaultAround implements FaultPolicy {
  readonly #pages: number;

  constructor(pages: number) {
    this.#pages = pages;
  }

  bringAlong(fault: Readonly<DemandFault>, window: PageWindow): void {
    window.first = fault.page - (fault.page % this.#pages);
    window.pages = this.#pages;
  }
}
