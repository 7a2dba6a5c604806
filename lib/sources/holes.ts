// Where a sparse file has no bytes: looked up between a fault and its answer, so nothing here allocates.
import type { SourceExtent } from '../server/page-source.js';

/** More holes than this and the later ones are read like everything else. */
export const MAX_HOLES = 2 ** 16;

export class Holes {
  readonly #bounds: Float64Array;

  /** @param bounds start and end of each hole, ascending; one that reaches `sizeBytes` has no end */
  constructor(bounds: Float64Array, sizeBytes: number) {
    this.#bounds = bounds.map((bound) => (bound >= sizeBytes ? Infinity : bound));
  }

  /**
   * Sets `extent` to whole pages around the page at `offset` that are in one hole (then true), or that are not all in
   * the hole before or the one after. The page is within the extent.
   */
  extentOf(offset: number, pageSize: number, extent: SourceExtent): boolean {
    const next = this.#endingAfter(offset);
    const start = this.#bounds[2 * next] ?? Infinity;
    const end = this.#bounds[2 * next + 1] ?? Infinity;
    if (start <= offset && end >= offset + pageSize) {
      extent.start = Math.ceil(start / pageSize) * pageSize;
      extent.end = Math.floor(end / pageSize) * pageSize;
      return true;
    }
    const before = next === 0 ? 0 : this.#bounds[2 * next - 1]!;
    // The page has bytes, and perhaps a part of either hole.
    extent.start = Math.min(offset, Math.floor(before / pageSize) * pageSize);
    extent.end = Math.max(offset + pageSize, Math.ceil(start / pageSize) * pageSize);
    return false;
  }

  /** The first hole that ends after the offset. */
  #endingAfter(offset: number): number {
    let low = 0;
    let high = this.#bounds.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#bounds[2 * middle + 1]! > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
