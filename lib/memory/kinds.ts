// Memory kinds: the userspace twin of the kernel's vm_uffd_ops. One object per kind says how its pages are filled and
// zeroed; nothing else switches on the kind.

/** How bytes get into an absent page: UFFDIO_COPY, or pwrite(2) into the memfd and UFFDIO_CONTINUE. */
export type FillWay = 'copy' | 'continue';

export interface MemoryKind {
  readonly name: 'anonymous' | 'shmem' | 'hugetlb';
  /** Ways to fill, the measured best first (docs/performance.md). */
  readonly fillWays: readonly FillWay[];
  /** Whether UFFDIO_ZEROPAGE exists for it; else zeroes are copied. */
  readonly zeropage: boolean;
  /**
   * What EEXIST from UFFDIO_COPY proves: `mapped` where only a page table can hold the page; `unknown` where the page
   * cache can hold a page that no page table maps, or the huge page pool is empty (reported as EEXIST too).
   */
  readonly copyExists: 'mapped' | 'unknown';
}

/** Private memory without a file. Only MISSING; CONTINUE is EINVAL. */
export const anonymous: MemoryKind = {
  name: 'anonymous',
  fillWays: ['copy'],
  zeropage: true,
  copyExists: 'mapped',
};

/** memfd and shared anonymous memory. */
export const shmem: MemoryKind = {
  name: 'shmem',
  fillWays: ['copy', 'continue'],
  zeropage: true,
  copyExists: 'unknown',
};

/** Huge pages of a memfd; ranges and answers are whole huge pages. */
export const hugetlb: MemoryKind = {
  name: 'hugetlb',
  fillWays: ['copy', 'continue'],
  zeropage: false,
  copyExists: 'unknown',
};

/** The kind behind a mapping somebody hands over: by what its memory descriptor is, and its page size. */
export function kindOf(hasMemory: boolean, regionPageSize: number, basePageSize: number): MemoryKind {
  if (regionPageSize !== basePageSize) return hugetlb;
  return hasMemory ? shmem : anonymous;
}

export const memoryKinds = { anonymous, shmem, hugetlb } as const;
