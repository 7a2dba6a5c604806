// All memory kinds. Adding one is adding a file, and a line here.
import { anonymous } from './anonymous.js';
import { guestMemfd } from './guest-memfd.js';
import { hugetlb, hugetlbPrivate } from './hugetlb.js';
import type { MemoryKind } from './kind.js';
import { memfdPrivate, shmem } from './shmem.js';
import { file, secretmem } from './unserved.js';

/** Every kind of memory, with what it can be registered for and answered with, and since which Linux. */
export const memoryKinds = {
  anonymous,
  shmem,
  'memfd-private': memfdPrivate,
  hugetlb,
  'hugetlb-private': hugetlbPrivate,
  file,
  secretmem,
  guest_memfd: guestMemfd,
} as const satisfies { readonly [name in MemoryKind['name']]: MemoryKind };

/** The kind behind a mapping somebody hands over: by what its memory descriptor is, and its page size. */
export function kindOf(
  file: 'memfd' | 'guest_memfd' | undefined,
  regionPageSize: number,
  basePageSize: number,
): MemoryKind {
  if (regionPageSize !== basePageSize) return hugetlb;
  if (file === 'guest_memfd') return guestMemfd;
  return file === 'memfd' ? shmem : anonymous;
}

/** The kind of a mapping of a memfd. */
export function kindOfMemfd(shared: boolean, memfdPageSize: number, basePageSize: number): MemoryKind {
  if (memfdPageSize !== basePageSize) return shared ? hugetlb : hugetlbPrivate;
  return shared ? shmem : memfdPrivate;
}
