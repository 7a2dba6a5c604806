// A registered range: addresses outside, page numbers inside.
import { UffdError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import type { AnswerName } from './features.js';

export class Region {
  readonly start: bigint;
  readonly lengthBytes: number;
  readonly pageSize: number;
  /** The mapping it was registered from, when it is one of this process. */
  readonly mapping: Mapping | undefined;
  /** What the kernel says the range can be answered with (uffdio_register.ioctls). */
  readonly answers: ReadonlySet<AnswerName>;

  constructor(
    start: bigint,
    lengthBytes: number,
    pageSize: number,
    mapping: Mapping | undefined,
    answers: ReadonlySet<AnswerName>,
  ) {
    this.start = start;
    this.lengthBytes = lengthBytes;
    this.pageSize = pageSize;
    this.mapping = mapping;
    this.answers = answers;
  }

  get pages(): number {
    return this.lengthBytes / this.pageSize;
  }

  contains(address: bigint): boolean {
    return address >= this.start && address < this.start + BigInt(this.lengthBytes);
  }

  pageOf(address: bigint): number {
    return Math.floor(Number(address - this.start) / this.pageSize);
  }

  /** Address of a page, as the native layer takes it. @throws UffdError ERR_OUT_OF_RANGE */
  addressOf(page: number, pages: number): number {
    const inside = Number.isSafeInteger(page) && Number.isSafeInteger(pages) && page >= 0 && pages > 0;
    if (!inside || page + pages > this.pages) {
      throw new UffdError('ERR_OUT_OF_RANGE', `pages ${page} to ${page + pages} of a region of ${this.pages}`);
    }
    return Number(this.start) + page * this.pageSize;
  }
}

/** Pages of a region; a `PageFault` is one. `pages` is 1 when left out. */
export interface PageRange {
  readonly region: Region;
  readonly page: number;
  readonly pages?: number;
}
