// What has happened in a session so far, as numbers that another worker can go on with.

/** Where each of `SessionCounters` stands. */
export const Counter = {
  faults: 0,
  filledPages: 1,
  zeroPages: 2,
  poisonedPages: 3,
  fetches: 4,
  failedReads: 5,
  fields: 6,
} as const;

/** What has happened in a session so far. */
export interface SessionCounters {
  /** Page-fault messages read. */
  faults: number;
  /** Pages filled from the source, demanded or brought along. */
  filledPages: number;
  zeroPages: number;
  poisonedPages: number;
  /** Reads that had to wait for a fetch worker. */
  fetches: number;
  /** Those of them that brought no bytes. */
  failedReads: number;
}

export function countersOf(values: Float64Array): SessionCounters {
  const [faults = 0, filledPages = 0, zeroPages = 0, poisonedPages = 0, fetches = 0, failedReads = 0] = values;
  return { faults, filledPages, zeroPages, poisonedPages, fetches, failedReads };
}
