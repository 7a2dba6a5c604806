// Every page is in exactly one state, one byte each, in a memfd: memory that outlives a worker, and the server process
// for whoever else holds the descriptor. Behind them, what has happened in the session so far.
import { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import { Counter } from './session-counters.js';

/**
 * `absent -> fetching -> resident | zero | poisoned`, `resident -> removed -> zero`. `fetching` also covers the moment
 * between planning an answer and knowing its result.
 */
export const PageState = { absent: 0, fetching: 1, resident: 2, zero: 3, poisoned: 4, removed: 5 } as const;

/** Counts of pages by the name of their state. */
export type StateCounts = Record<keyof typeof PageState, number>;

export class PageStates {
  bytes: Uint8Array;
  counters: Float64Array;
  readonly #memfd: Memfd;
  readonly #mapping: Mapping;

  /** @param fd of the states of a session that another worker had; taken over */
  constructor(pages: number, fd = -1) {
    const countersAt = Math.ceil(pages / 8) * 8;
    const sizeBytes = countersAt + Counter.fields * 8;
    this.#memfd = fd < 0 ? Memfd.create({ sizeBytes, name: 'uffd-page-states' }) : Memfd.adopt(fd);
    try {
      this.#mapping = Mapping.map(this.#memfd);
    } catch (error) {
      this.#memfd.close();
      throw error;
    }
    this.bytes = new Uint8Array(this.#mapping.view(), 0, pages);
    this.counters = new Float64Array(this.#mapping.view(), countersAt, Counter.fields);
  }

  get fd(): number {
    return this.#memfd.fd;
  }

  set(first: number, count: number, state: number): void {
    if (count === 1) this.bytes[first] = state;
    else this.bytes.fill(state, first, first + count);
  }

  /** First page of that state in [from, to), or -1. */
  next(state: number, from: number, to: number): number {
    const at = this.bytes.indexOf(state, from);
    return at >= 0 && at < to ? at : -1;
  }

  /** How many pages from `first` on are in that state, at most `limit`. */
  run(state: number, first: number, limit: number): number {
    let count = 0;
    while (count < limit && this.bytes[first + count] === state) count++;
    return count;
  }

  counts(): StateCounts {
    const byState = new Array<number>(6).fill(0);
    for (const state of this.bytes) byState[state]!++;
    const [absent = 0, fetching = 0, resident = 0, zero = 0, poisoned = 0, removed = 0] = byState;
    return { absent, fetching, resident, zero, poisoned, removed };
  }

  /** They are another worker's now: whatever is still written here is not seen by anybody. */
  leave(): void {
    this.bytes = new Uint8Array(this.bytes.length);
    this.counters = new Float64Array(Counter.fields);
    this.close();
  }

  close(): void {
    this.#mapping.detachViews();
    this.#mapping.unmap();
    this.#memfd.close();
  }
}
