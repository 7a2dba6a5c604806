// The two areas that bounce: what one holds is filled into the other, page by page.
import { constants } from 'node:buffer';
import { UffdError } from '../errors.js';
import { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import { pageSize as basePageSize } from '../memory/page-size.js';
import type { StressMemory } from './report.js';

export const HUGE_PAGE_BYTES = 2 ** 21;
/** Page numbers a page can say of itself (native BounceThreads). */
const MOST_PAGES = 2 ** 24;

interface Traits {
  readonly huge: boolean;
  readonly memfd: boolean;
  readonly shared: boolean;
}

const traits: Record<StressMemory, Traits> = {
  anon: { huge: false, memfd: false, shared: false },
  shmem: { huge: false, memfd: true, shared: true },
  'shmem-private': { huge: false, memfd: true, shared: false },
  hugetlb: { huge: true, memfd: true, shared: true },
  'hugetlb-private': { huge: true, memfd: true, shared: false },
};

/** Bytes of a page of that memory. */
export function pageSizeOf(memory: StressMemory): number {
  return traits[memory].huge ? HUGE_PAGE_BYTES : basePageSize();
}

/** Huge pages that a run needs: two areas. */
export function hugePagesFor(memory: StressMemory, sizeBytes: number): number {
  return traits[memory].huge ? 2 * Math.ceil(sizeBytes / HUGE_PAGE_BYTES) : 0;
}

/** The memory of one area. */
export class Area implements Disposable {
  readonly mapping: Mapping;
  readonly #memfd: Memfd | undefined;
  readonly #shared: boolean;
  /** A second mapping, never registered, of shared memory: what is written there is cached, not mapped. */
  readonly #alias: Mapping | undefined;
  readonly #bytes: Uint8Array | undefined;

  constructor(memory: StressMemory, sizeBytes: number) {
    const { huge, memfd, shared } = traits[memory];
    this.#shared = shared;
    this.#memfd = memfd ? Memfd.create({ sizeBytes, name: 'uffd-stress', ...(huge && { hugetlb: '2M' }) }) : undefined;
    this.mapping = this.#memfd === undefined ? Mapping.anonymous(sizeBytes) : Mapping.map(this.#memfd, { shared });
    this.#alias = this.#memfd !== undefined && shared ? Mapping.map(this.#memfd) : undefined;
    this.#bytes = this.#alias && new Uint8Array(this.#alias.view());
  }

  /** Where its pages can be in the page cache without being mapped. */
  get cached(): boolean {
    return this.#bytes !== undefined;
  }

  get pages(): number {
    return this.mapping.lengthBytes / this.mapping.pageSize;
  }

  /** Makes pages absent: whoever touches one faults. */
  drop(firstPage = 0, pages = this.pages - firstPage): void {
    const { pageSize } = this.mapping;
    const [offset, lengthBytes] = [firstPage * pageSize, pages * pageSize];
    if (!this.#shared) this.mapping.advise('dontNeed', offset, lengthBytes);
    // Of a private mapping too: what was written there without a handler has left pages of zeroes in the memfd.
    this.#memfd?.punchHole(offset, lengthBytes);
  }

  /** Brings the bytes of a page of another area into the page cache, where a touch finds them: a MINOR fault. */
  cache(page: number, from: Area): void {
    const { pageSize } = this.mapping;
    const at = page * pageSize;
    if (this.#bytes !== undefined && from.#bytes !== undefined) {
      this.#bytes.set(from.#bytes.subarray(at, at + pageSize), at);
    }
  }

  [Symbol.dispose](): void {
    this.#alias?.detachViews();
    this.#alias?.unmap();
    this.mapping.unmap();
    this.#memfd?.close();
  }
}

export class Areas implements Disposable {
  source: Area;
  target: Area;

  /** @throws KernelError ENOMEM (not enough free huge pages), UffdError ERR_OUT_OF_RANGE (too large) */
  constructor(memory: StressMemory, sizeBytes: number) {
    const pages = Math.ceil(sizeBytes / pageSizeOf(memory));
    if (pages > MOST_PAGES || (traits[memory].shared && sizeBytes > constants.MAX_LENGTH)) {
      throw new UffdError('ERR_OUT_OF_RANGE', `at most ${MOST_PAGES} pages and ${constants.MAX_LENGTH} bytes an area`);
    }
    const available = process.availableMemory();
    if (!traits[memory].huge && 2 * sizeBytes > available) {
      const mebibytes = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
      throw new UffdError(
        'ERR_OUT_OF_RANGE',
        `two areas need ${mebibytes(2 * sizeBytes)}, and ${mebibytes(available)} are free: give a smaller --size`,
      );
    }
    this.source = new Area(memory, sizeBytes);
    try {
      this.target = new Area(memory, sizeBytes);
    } catch (error) {
      this.source[Symbol.dispose]();
      throw error;
    }
  }

  swap(): void {
    [this.source, this.target] = [this.target, this.source];
  }

  [Symbol.dispose](): void {
    this.source[Symbol.dispose]();
    this.target[Symbol.dispose]();
  }
}
