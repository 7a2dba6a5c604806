// What the main thread of a stress run and its handlers tell each other.

/** Mistakes made on purpose, by tests only, to see that they are found. */
export type Mistake =
  /** Now and then a page is filled with the bytes of the next one. */
  | 'wrong-page'
  /** Pages that were changed are dropped, and filled anew as they were before. */
  | 'dropped-page'
  /** A page is dropped when the bounce is over. */
  | 'lost-page'
  /** The COPY that must be EEXIST is given for another page, which may be absent. */
  | 'not-twice'
  /** Faults of the last page are not answered. */
  | 'unanswered';

export interface HandlerData {
  /** The number of the descriptor all handlers share; each duplicates it. */
  readonly userfaultfd: number;
  /** [0] is 1 when the bounce is over. */
  readonly over: Int32Array;
}

export interface BounceOrders {
  readonly reader: 'polling' | 'blocking';
  readonly target: number;
  readonly source: number;
  readonly pages: number;
  readonly pageSize: number;
  /** Pages can be write-protected: registered for it, by COPY, and by CONTINUE too (Linux 6.4). */
  readonly protect: { readonly copy: boolean; readonly continue: boolean };
  /** Pages can be in the page cache without being mapped. */
  readonly cached: boolean;
  /** Where this handler begins with pages nobody has asked for. */
  readonly firstAhead: number;
  readonly mistake: Mistake | undefined;
}

export interface HandlerCounts {
  missing: number;
  minor: number;
  wp: number;
  provoked: number;
  raced: number;
  unexpected: string[];
}

export type FromHandler =
  /** With the descriptor of a Bell. */
  | { readonly type: 'ready'; readonly bell: number }
  | { readonly type: 'over'; readonly counts: HandlerCounts }
  | { readonly type: 'failed'; readonly error: string };
