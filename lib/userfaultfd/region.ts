// A registered range: addresses outside, page numbers inside.
import { UffdError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import type { AnswerName, MemoryKind } from '../memory/kinds/kind.js';

export type RegionParts = Pick<Region, 'start' | 'lengthBytes' | 'pageSize' | 'mapping' | 'kind' | 'answers'> & {
  readonly firstPage?: number;
};

/** A range that is registered with a userfaultfd; made by `register`, moved and cut by events. */
export class Region {
  readonly start: bigint;
  readonly lengthBytes: number;
  readonly pageSize: number;
  /** The mapping it was registered from, when it is one of this process. */
  readonly mapping: Mapping | undefined;
  /** What kind of memory it is, when that is known. */
  readonly kind: MemoryKind | undefined;
  /** Page of the range that was registered at which this piece of it begins: 0 unless events moved or cut it. */
  readonly firstPage: number;
  /** What the kernel says the range can be answered with (uffdio_register.ioctls). */
  readonly answers: ReadonlySet<AnswerName>;

  constructor(parts: RegionParts) {
    this.start = parts.start;
    this.lengthBytes = parts.lengthBytes;
    this.pageSize = parts.pageSize;
    this.mapping = parts.mapping;
    this.kind = parts.kind;
    this.firstPage = parts.firstPage ?? 0;
    this.answers = parts.answers;
  }

  get pages(): number {
    return this.lengthBytes / this.pageSize;
  }

  get end(): bigint {
    return this.start + BigInt(this.lengthBytes);
  }

  /** The part from one address to another, which lie inside it; moved by `by` bytes. */
  piece(from: bigint, to: bigint, by = 0n): Region {
    const firstPage = this.firstPage + Number(from - this.start) / this.pageSize;
    const { pageSize, mapping, kind, answers } = this;
    const lengthBytes = Number(to - from);
    return new Region({ start: from + by, lengthBytes, pageSize, mapping, kind, answers, firstPage });
  }

  /** The same range of a child's address space. */
  ofChild(): Region {
    const { start, lengthBytes, pageSize, kind, answers, firstPage } = this;
    return new Region({ start, lengthBytes, pageSize, mapping: undefined, kind, answers, firstPage });
  }

  /** Whether an address lies in it. */
  contains(address: bigint): boolean {
    return address >= this.start && address < this.end;
  }

  /** The page an address lies in. */
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
