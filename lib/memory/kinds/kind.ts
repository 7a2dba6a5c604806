// What a memory kind says of itself: the userspace twin of the kernel's vm_uffd_ops. Nothing else switches on the kind.

/** uffdio_register.mode by name. */
export type RegisterModeName = 'missing' | 'wp' | 'minor' | 'rwp';
/** The answers by the name of their ioctl. */
export type AnswerName = 'wake' | 'copy' | 'zeropage' | 'move' | 'writeprotect' | 'continue' | 'poison' | 'rwprotect';

/** How bytes get into an absent page: UFFDIO_COPY, or pwrite(2) into the memfd and UFFDIO_CONTINUE. */
export type FillWay = 'copy' | 'continue';

/**
 * The Linux version that added it; or why there is none: `not yet` is asked of the kernel all the same, `never` is what
 * no kernel can do, and is refused before the call. A text after the version is a condition.
 */
export type Since =
  { readonly since: string; readonly only?: string } | { readonly not: 'yet' | 'never'; readonly why: string };

/** One kind of memory, as `memoryKinds` lists them. */
export interface MemoryKind {
  readonly name:
    'anonymous' | 'shmem' | 'memfd-private' | 'hugetlb' | 'hugetlb-private' | 'file' | 'secretmem' | 'guest_memfd';
  /** For messages and tables: "private anonymous memory". */
  readonly description: string;
  readonly registers: Readonly<Record<RegisterModeName, Since>>;
  readonly answers: Readonly<Record<AnswerName, Since>>;
  /** Ways to fill, the measured best first (docs/performance.md). */
  readonly fillWays: readonly FillWay[];
  /**
   * What EEXIST from UFFDIO_COPY proves: `mapped` where only a page table can hold the page; `unknown` where the page
   * cache can hold a page that no page table maps, or the huge page pool is empty (reported as EEXIST too).
   */
  readonly copyExists: 'mapped' | 'unknown';
  /**
   * What a page that was dropped shows when it is touched again: what is in the page cache, which was dropped with it; or
   * the page cache as it ever was, behind a private mapping. Default `dropped`.
   */
  readonly behind?: 'dropped' | 'kept';
}

export function since(version: string, only?: string): Since {
  return only === undefined ? { since: version } : { since: version, only };
}
export function notYet(why: string): Since {
  return { not: 'yet', why };
}
export function never(why: string): Since {
  return { not: 'never', why };
}

/** Why an operation may have failed on the running kernel, in one sentence. */
export function explain(kind: MemoryKind, what: string, support: Since): string {
  if ('not' in support) return `${what} of ${kind.description}: ${support.why}`;
  const only = support.only === undefined ? '' : ` ${support.only}`;
  return `${what} of ${kind.description} is there since Linux ${support.since}${only}`;
}
