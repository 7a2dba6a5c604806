// A bit for each page of a memory slot that was written.
import { UffdError } from '../errors.js';

const WORD_PAGES = 64;

/** The dirty log of a memory slot: a bit for each page that was written (KVM_GET_DIRTY_LOG). */
export class DirtyPages implements Iterable<number> {
  /** Page that the first bit stands for. */
  readonly first: number;
  readonly pages: number;
  /** Bits from the lowest of each byte on, in whole 64-bit words. */
  readonly bitmap: Uint8Array;

  constructor(first: number, pages: number, bitmap: Uint8Array = new Uint8Array(Math.ceil(pages / WORD_PAGES) * 8)) {
    this.first = first;
    this.pages = pages;
    this.bitmap = bitmap;
  }

  /** Whether the page was written. */
  has(page: number): boolean {
    const bit = page - this.first;
    return bit >= 0 && bit < this.pages && (this.bitmap[bit >> 3]! & (1 << (bit & 7))) !== 0;
  }

  /** The numbers of the dirty pages, in order. */
  *[Symbol.iterator](): Iterator<number> {
    for (let page = this.first; page < this.first + this.pages; page++) if (this.has(page)) yield page;
  }

  /** @throws UffdError ERR_OUT_OF_RANGE */
  part(first: number, pages: number): DirtyPages {
    const end = first + pages;
    const aligned = first % WORD_PAGES === 0 && (pages % WORD_PAGES === 0 || end === this.first + this.pages);
    if (!aligned || first < this.first || pages <= 0 || end > this.first + this.pages) {
      throw new UffdError(
        'ERR_OUT_OF_RANGE',
        `pages ${first} to ${end} are not whole groups of ${WORD_PAGES} of the log`,
      );
    }
    const from = (first - this.first) / 8;
    return new DirtyPages(first, pages, this.bitmap.subarray(from, from + Math.ceil(pages / WORD_PAGES) * 8));
  }
}
