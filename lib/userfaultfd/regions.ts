// The registered ranges of one address space, as its events move, cut and drop them.
import type { Region } from './region.js';

export class Regions {
  #regions: Region[];

  constructor(regions: Iterable<Region> = []) {
    this.#regions = [...regions];
  }

  [Symbol.iterator](): Iterator<Region> {
    return this.#regions[Symbol.iterator]();
  }

  at(address: bigint): Region | undefined {
    return this.#regions.find((region) => region.contains(address));
  }

  /** The newest registration of a range counts. */
  add(region: Region): void {
    this.remove(region.start, region.end);
    this.#regions.push(region);
  }

  /** The range is registered no longer. */
  remove(start: bigint, end: bigint): void {
    this.#regions = this.#regions.flatMap((region) => {
      if (region.start >= end || region.end <= start) return [region];
      const rest: Region[] = [];
      if (region.start < start) rest.push(region.piece(region.start, start));
      if (region.end > end) rest.push(region.piece(end, region.end));
      return rest;
    });
  }

  /** mremap(2) moved the range; its registration went with it. */
  move(from: bigint, to: bigint, lengthBytes: bigint): void {
    const end = from + lengthBytes;
    const moved = this.#regions
      .filter((region) => region.start < end && region.end > from)
      .map((region) =>
        region.piece(region.start > from ? region.start : from, region.end < end ? region.end : end, to - from),
      );
    this.remove(from, end);
    for (const region of moved) this.add(region);
  }

  clear(): void {
    this.#regions = [];
  }
}
