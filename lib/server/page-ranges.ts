// Ranges of a session's pages, walked once from front to back.
import type { ServedRegion } from './session.js';

export class PageRanges {
  /** First page of each range, and the one after its last. */
  readonly #bounds: readonly number[];
  readonly #wanted: number;
  #range = 0;
  #page: number;

  /** @param wanted how many of the bounds are of ranges that somebody is expected to ask for; those come first */
  constructor(bounds: readonly number[], wanted = 0) {
    this.#bounds = bounds;
    this.#wanted = wanted;
    this.#page = bounds[0] ?? 0;
  }

  /** Whether the range walked in now is expected to be asked for. */
  get wanted(): boolean {
    return this.#range < this.#wanted;
  }

  get ended(): boolean {
    return this.#range >= this.#bounds.length;
  }

  /** The page after the last of the range walked in now. */
  get end(): number {
    return this.#bounds[this.#range + 1] ?? 0;
  }

  /** The next page in that state; -1 when there is none, or none among the next `most` pages. */
  next(states: Uint8Array, state: number, most: number): number {
    for (let looked = 0; !this.ended && looked < most; looked++) {
      if (this.#page < this.end && states[this.#page] === state) return this.#page;
      this.pass(this.#page + 1);
    }
    return -1;
  }

  /** Narrows `window` to the range that has the page; false when none has it. Ranges are ascending. */
  narrow(page: number, window: { first: number; pages: number }): boolean {
    const bounds = this.#bounds;
    let low = 0;
    let high = bounds.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (bounds[2 * middle + 1]! > page) high = middle;
      else low = middle + 1;
    }
    const start = bounds[2 * low] ?? Infinity;
    const end = bounds[2 * low + 1] ?? 0;
    if (start > page) return false;
    const wantedEnd = Math.min(end, window.first + window.pages);
    window.first = Math.max(start, window.first);
    window.pages = wantedEnd - window.first;
    return true;
  }

  /** Goes on at that page of the range, or at the next range. */
  pass(page: number): void {
    this.#page = page;
    if (page < this.end) return;
    this.#range += 2;
    this.#page = this.#bounds[this.#range] ?? 0;
  }
}

/**
 * The pages of a session that show these parts of the source.
 * @param extents first page and number of pages of each part, in pages of the source, ascending
 */
export function rangesOf(regions: readonly ServedRegion[], extents: Float64Array, pageSize: number): number[] {
  const bounds: number[] = [];
  for (const region of regions) {
    const base = region.offset / pageSize;
    for (let i = firstEndingAfter(extents, base); i < extents.length; i += 2) {
      const from = Math.max(extents[i]!, base);
      const to = Math.min(extents[i]! + extents[i + 1]!, base + region.pages);
      if (extents[i]! >= base + region.pages) break;
      if (from < to) bounds.push(region.firstPage + from - base, region.firstPage + to - base);
    }
  }
  return bounds;
}

function firstEndingAfter(extents: Float64Array, page: number): number {
  let low = 0;
  let high = extents.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (extents[2 * middle]! + extents[2 * middle + 1]! > page) high = middle;
    else low = middle + 1;
  }
  return 2 * low;
}
