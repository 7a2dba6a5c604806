// What is mapped, and how: the arguments of mmap(2).
import type { MemoryKind } from './kinds/kind.js';

const PROT = { none: 0, read: 1, write: 2 } as const;
const MAP = { shared: 1, private: 2, anonymous: 0x20, noReserve: 0x4000, populate: 0x8000 } as const;

/** What may be done to the pages, mmap(2) and mprotect(2): PROT_NONE, PROT_READ, or PROT_READ and PROT_WRITE. */
export type Protection = 'none' | 'read' | 'readwrite';

export const protections: Record<Protection, number> = {
  none: PROT.none,
  read: PROT.read,
  readwrite: PROT.read | PROT.write,
};

/** What can be mapped: a `Memfd`, a `GuestMemfd`. */
export interface MappableMemory {
  /** The descriptor, which stays its owner's. */
  readonly fd: number;
  readonly sizeBytes: number;
  /** Bytes of a page: a huge page's for hugetlb memory. */
  readonly pageSize: number;
  /** What a mapping of it can be registered for and answered with. */
  kindOfMapping(shared: boolean): MemoryKind;
}

/** What of a memory is mapped, and how (mmap(2)). */
export interface MapOptions {
  /** Bytes; rounded up to whole pages of the memory. Default: from `offset` to its end. */
  readonly lengthBytes?: number;
  /** Bytes from the start of the memory, a multiple of its page size. Default 0. */
  readonly offset?: number;
  /**
   * Shared with everybody who maps the memory (MAP_SHARED), or a private copy of the pages that are written
   * (MAP_PRIVATE). Default true.
   */
  readonly shared?: boolean;
  /** Default `readwrite`. */
  readonly protection?: Protection;
  /** Fault all pages in now (MAP_POPULATE). What cannot be had is no error: an access later is one. Default false. */
  readonly populate?: boolean;
  /** Reserve no huge pages (MAP_NORESERVE): an access without one is SIGBUS. Default false. */
  readonly noReserve?: boolean;
}

/** mmap(2) flags. */
export function mapFlags(options: Pick<MapOptions, 'shared' | 'populate' | 'noReserve'>, anonymous = false): number {
  const { shared = true, populate = false, noReserve = false } = options;
  return (
    (shared ? MAP.shared : MAP.private) |
    (anonymous ? MAP.anonymous : 0) |
    (populate ? MAP.populate : 0) |
    (noReserve ? MAP.noReserve : 0)
  );
}
