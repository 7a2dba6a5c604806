// How long answers took, by what they were: histograms in memory that a serving worker writes and the main thread reads.
// One writer each, and every count is by itself: a reader sees a moment's numbers, not a moment.

/** What became of a fault: its page mapped where it was, filled, zeroed, poisoned; or any of them, but not at once. */
export type OutcomeName = 'mapped' | 'filled' | 'zeroed' | 'poisoned' | 'waited';

export const outcomes: readonly OutcomeName[] = ['mapped', 'filled', 'zeroed', 'poisoned', 'waited'];

/** Upper bounds, in milliseconds; whatever is more has a place of its own. */
export const boundsMs = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000,
] as const;

/** Of each outcome: a count for each bound, one for what is above all, and the sum in milliseconds. */
const FIELDS = boundsMs.length + 2;

/** How many answers took how long, by the bounds in docs/operations.md. */
export interface Histogram {
  /** Not cumulative; the last one is of what is above all bounds. */
  readonly counts: readonly number[];
  readonly sumMs: number;
}

export class Measures {
  readonly shared: SharedArrayBuffer;
  readonly #values: Float64Array;
  /** When the messages of this round were read, and when its answers had been given; performance.now(). */
  #readAt = 0;
  #answeredAt = 0;

  constructor(shared = new SharedArrayBuffer(outcomes.length * FIELDS * 8)) {
    this.shared = shared;
    this.#values = new Float64Array(shared);
  }

  read(): void {
    this.#readAt = performance.now();
  }

  given(): void {
    this.#answeredAt = performance.now();
  }

  /** A fault of this round has been answered. */
  answered(outcome: number): void {
    this.#add(outcome, this.#answeredAt - this.#readAt);
  }

  /** A fault that came at that time has been answered. */
  waited(since: number): void {
    this.#add(outcomes.indexOf('waited'), this.#answeredAt - since);
  }

  histogram(outcome: OutcomeName): Histogram {
    const start = outcomes.indexOf(outcome) * FIELDS;
    const values = this.#values.subarray(start, start + FIELDS);
    return { counts: Array.from(values.subarray(0, -1)), sumMs: values.at(-1) ?? 0 };
  }

  #add(outcome: number, ms: number): void {
    let bound = 0;
    while (bound < boundsMs.length && ms > boundsMs[bound]!) bound++;
    const start = outcome * FIELDS;
    this.#values[start + bound]!++;
    this.#values[start + FIELDS - 1]! += ms;
  }
}
