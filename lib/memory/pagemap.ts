// /proc/PID/pagemap: what state the pages of a range are in, and which of them were written (Documentation/admin-guide/
// mm/pagemap.rst).
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { KernelError, UffdError, checked } from '../errors.js';
import { native } from '../native/load.js';
import type { Mapping } from './mapping.js';
import { pageSize } from './page-size.js';

/** PAGEMAP_SCAN categories: PAGE_IS_WPALLOWED and so on. */
const categories = {
  writeProtectAllowed: 1n,
  written: 2n,
  file: 4n,
  present: 8n,
  swapped: 16n,
  zeroPage: 32n,
  huge: 64n,
  softDirty: 128n,
  guard: 256n,
  accessed: 512n,
} as const;
/**
 * Names of PAGEMAP_SCAN categories (Linux 6.7 unless said otherwise), each with the kernel's:
 * - `writeProtectAllowed`, PAGE_IS_WPALLOWED: writes are tracked there, asynchronously (WP_ASYNC).
 * - `written`, PAGE_IS_WRITTEN: since it was write-protected; every page where it never was.
 * - `file`, PAGE_IS_FILE: of a file or shared memory.
 * - `present`, PAGE_IS_PRESENT: mapped. A page that is only in the page cache is not.
 * - `swapped`, PAGE_IS_SWAPPED: swapped out; and what the page table has a marker for: poison, guards. Of shared memory only
 *   markers: where its pages have gone, the page table does not say.
 * - `zeroPage`, PAGE_IS_PFNZERO: private memory that was only read.
 * - `huge`, PAGE_IS_HUGE: mapped by a huge page, transparent or of hugetlb.
 * - `softDirty`, PAGE_IS_SOFT_DIRTY: written since `clearSoftDirty`.
 * - `guard`, PAGE_IS_GUARD (Linux 6.15): made by MADV_GUARD_INSTALL.
 * - `accessed`, PAGE_IS_ACCESSED (Linux 7.3): used since it was protected by `rwp`.
 */
export type PageCategory = keyof typeof categories;

const WP_MATCHING = 1n;
const CHECK_WPASYNC = 2n;
/** Words of a pm_scan_arg. */
const Request = { flags: 1, start: 2, end: 3, walkEnd: 4, maxPages: 7, inverted: 8, mask: 9, anyOf: 10, returned: 11 };
const REQUEST_WORDS = 12;
const REGIONS_PER_CALL = 512;
const REGION_WORDS = 3;
const ENTRY_BYTES = 8;
const ENTRIES_PER_READ = 4096;

/** Whole pages of a mapping. */
export interface PageSpan {
  /** Bytes from the start of the mapping, a multiple of its page size. Default 0. */
  readonly offset?: number;
  /** Default: to the end of the mapping. */
  readonly lengthBytes?: number;
}

/** Which pages `scanPages` looks for, where, and what it does to them (struct pm_scan_arg). */
export interface ScanOptions extends PageSpan {
  /** Pages that are in all of these (category_mask). Default none asked. */
  readonly allOf?: readonly PageCategory[];
  /** Pages that are in one of these (category_anyof_mask). Default none asked. */
  readonly anyOf?: readonly PageCategory[];
  /** Pages that are in none of these, besides (category_inverted). Default none. */
  readonly not?: readonly PageCategory[];
  /** What is told of each run (return_mask); runs differ in it. Default: what was asked for. */
  readonly report?: readonly PageCategory[];
  /**
   * Write-protect the pages that match again, in the same step: get and clear (PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC).
   * The range must be registered with `wp` and the feature `wpAsync` (else EPERM). Default false.
   */
  readonly writeProtect?: boolean;
}

/** Neighbouring pages that are in the same of the reported categories. */
export interface PageRun {
  /** Bytes from the start of the mapping. */
  readonly offset: number;
  readonly lengthBytes: number;
  readonly categories: ReadonlySet<PageCategory>;
}

/**
 * PAGEMAP_SCAN (Linux 6.7; PAGEMAP_SCAN(2const), Documentation/admin-guide/mm/pagemap.rst): the runs of pages of this
 * process's mapping that are in certain categories, in order, by default of all of it. Without `allOf`, `anyOf` and `not`
 * that is every page. Yields while it walks; a page written meanwhile is in this walk or in the next.
 * @throws KernelError EINVAL (a category this kernel does not know), EPERM (`writeProtect` without WP_ASYNC), ENOTTY
 *   (before 6.7), UffdError ERR_OUT_OF_RANGE (no whole pages, or not of the mapping), ERR_INVALID_ARGUMENT (no such
 *   category), ERR_CLOSED (unmapped)
 */
export function* scanPages(mapping: Mapping, options: ScanOptions): Generator<PageRun, void, undefined> {
  const { start, end } = spanOf(mapping, options);
  const { allOf = [], anyOf = [], not = [], writeProtect = false } = options;
  const request = new BigUint64Array(REQUEST_WORDS);
  request[Request.flags] = writeProtect ? WP_MATCHING | CHECK_WPASYNC : 0n;
  request[Request.end] = end;
  request[Request.inverted] = maskOf(not);
  request[Request.mask] = maskOf([...allOf, ...not]);
  request[Request.anyOf] = maskOf(anyOf);
  request[Request.returned] = maskOf(options.report ?? [...allOf, ...anyOf, ...not]);
  const regions = new BigUint64Array(REGIONS_PER_CALL * REGION_WORDS);
  const fd = openSync('/proc/self/pagemap', 'r');
  try {
    for (let at = start; at < end; at = request[Request.walkEnd]!) {
      request[Request.start] = at;
      const count = checked(native().scanPages(fd, request, regions), 'PAGEMAP_SCAN', describe(options));
      for (let region = 0; region < count; region++) {
        const [from, to, mask] = regions.subarray(region * REGION_WORDS, (region + 1) * REGION_WORDS);
        yield { offset: Number(from! - mapping.address), lengthBytes: Number(to! - from!), categories: namesOf(mask!) };
      }
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * One page's entry of /proc/PID/pagemap: what a page table says (proc_pid_pagemap(5),
 * Documentation/admin-guide/mm/pagemap.rst). A bit that the kernel does not know is false.
 */
export interface PageEntry {
  /** Bit 63: mapped. A page that is only in the page cache is not. */
  readonly present: boolean;
  /** Bit 62: swapped out; and what there is a marker for: poison, guards. Of shared memory only markers. */
  readonly swapped: boolean;
  /** Bit 61 (Linux 3.5): of a file or shared memory. */
  readonly file: boolean;
  /** Bit 58 (Linux 6.15): made by MADV_GUARD_INSTALL. */
  readonly guard: boolean;
  /** Bit 57: protected by a userfaultfd, `wp` (Linux 5.14) or `rwp` (7.3). */
  readonly writeProtected: boolean;
  /** Bit 56 (Linux 4.2): present, and mapped nowhere else: not by another mapping, not by a child. */
  readonly exclusive: boolean;
  /** Bit 55 (Linux 3.11): written since `clearSoftDirty`; always false without CONFIG_MEM_SOFT_DIRTY. */
  readonly softDirty: boolean;
}

const bits = {
  softDirty: 55n,
  exclusive: 56n,
  writeProtected: 57n,
  guard: 58n,
  file: 61n,
  swapped: 62n,
  present: 63n,
} as const satisfies Record<keyof PageEntry, bigint>;

/**
 * read(2) of /proc/self/pagemap (Linux 2.6.25): the entries of a range, by default of the whole mapping, one for each base
 * page, also of huge pages. A moment's answer. Needs no privilege: page frame numbers are not read.
 * @throws UffdError ERR_OUT_OF_RANGE (no whole pages, or not of the mapping), ERR_CLOSED (unmapped); the error of open(2)
 *   where there is no /proc
 */
export function pageEntries(mapping: Mapping, span: PageSpan = {}): PageEntry[] {
  const { start, end } = spanOf(mapping, span);
  const count = Number(end - start) / pageSize();
  const entries: PageEntry[] = [];
  const words = new BigUint64Array(Math.min(count, ENTRIES_PER_READ));
  const fd = openSync('/proc/self/pagemap', 'r');
  try {
    while (entries.length < count) {
      const wanted = words.subarray(0, Math.min(words.length, count - entries.length));
      const position = (start / BigInt(pageSize()) + BigInt(entries.length)) * BigInt(ENTRY_BYTES);
      const read = readSync(fd, wanted, 0, wanted.byteLength, position);
      if (read !== wanted.byteLength) throw new KernelError(-5, 'read', '/proc/self/pagemap ended early');
      for (const word of wanted) entries.push(entryOf(word));
    }
  } finally {
    closeSync(fd);
  }
  return entries;
}

/**
 * Writes 4 to /proc/self/clear_refs (Linux 3.11, CONFIG_MEM_SOFT_DIRTY; proc_pid_clear_refs(5),
 * Documentation/admin-guide/mm/soft-dirty.rst): starts a new round of soft-dirty tracking for the whole process. Without
 * CONFIG_MEM_SOFT_DIRTY it does nothing and says nothing: the probe `pagemap.softDirty` tells.
 * @throws the error of open(2) or write(2) where there is no /proc to be written
 */
export function clearSoftDirty(): void {
  writeFileSync('/proc/self/clear_refs', '4');
}

function entryOf(word: bigint): PageEntry {
  const has = (name: keyof PageEntry) => ((word >> bits[name]) & 1n) === 1n;
  return {
    present: has('present'),
    swapped: has('swapped'),
    file: has('file'),
    guard: has('guard'),
    writeProtected: has('writeProtected'),
    exclusive: has('exclusive'),
    softDirty: has('softDirty'),
  };
}

function spanOf(mapping: Mapping, span: PageSpan): { start: bigint; end: bigint } {
  const { offset = 0 } = span;
  const { lengthBytes = mapping.lengthBytes - offset } = span;
  const whole = (bytes: number) => Number.isSafeInteger(bytes) && bytes >= 0 && bytes % mapping.pageSize === 0;
  if (mapping.unmapped) throw new UffdError('ERR_CLOSED', 'the memory is unmapped');
  if (!whole(offset) || !whole(lengthBytes) || offset + lengthBytes > mapping.lengthBytes) {
    throw new UffdError('ERR_OUT_OF_RANGE', `${lengthBytes} bytes at ${offset} are not whole pages of the mapping`);
  }
  const start = mapping.address + BigInt(offset);
  return { start, end: start + BigInt(lengthBytes) };
}

function maskOf(names: readonly PageCategory[]): bigint {
  let mask = 0n;
  for (const name of names) {
    if (!Object.hasOwn(categories, name)) throw new UffdError('ERR_INVALID_ARGUMENT', `unknown page category ${name}`);
    mask |= categories[name];
  }
  return mask;
}

function namesOf(mask: bigint): Set<PageCategory> {
  return new Set((Object.keys(categories) as PageCategory[]).filter((name) => (mask & categories[name]) !== 0n));
}

function describe({ allOf = [], anyOf = [], writeProtect = false }: ScanOptions): string {
  const asked = [...allOf, ...anyOf].join(', ');
  return writeProtect ? `${asked}; to write-protect takes registration with wp and the feature wpAsync` : asked;
}
