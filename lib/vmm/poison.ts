// Poison for every page that nobody has brought: whoever waits for one gets an error instead of waiting for ever.
import { closeSync, openSync, readSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { pageSize } from '../memory/page-size.js';
import type { Region } from '../userfaultfd/region.js';
import type { Userfaultfd } from '../userfaultfd/userfaultfd.js';

const ENTRY = 8;
const CHUNK_PAGES = 2 ** 16;
/** Bits 63 (present) and 62 (swapped, or a marker) of an entry of pagemap, in its upper half. */
const SOMETHING_THERE = 0xc0000000;
const MOST_RETRIES = 1000;

/** The pages of a region of this process that its page table has nothing for, as runs. */
export function* absentRuns(region: Region): Generator<{ page: number; pages: number }> {
  const basePages = region.pageSize / pageSize();
  const firstEntry = Number(region.start / BigInt(pageSize()));
  const fd = openSync('/proc/self/pagemap', 'r');
  try {
    let run = { page: 0, pages: 0 };
    for (let page = 0; page < region.pages; page += CHUNK_PAGES) {
      const pages = Math.min(CHUNK_PAGES, region.pages - page);
      const entries = new Uint32Array((pages * basePages * ENTRY) / 4);
      readSync(fd, entries, 0, entries.byteLength, (firstEntry + page * basePages) * ENTRY);
      for (let index = 0; index < pages; index++) {
        const absent = (entries[index * basePages * 2 + 1]! & SOMETHING_THERE) === 0;
        if (absent && run.pages === 0) run.page = page + index;
        if (absent) run.pages++;
        else if (run.pages > 0) {
          yield run;
          run = { page: 0, pages: 0 };
        }
      }
    }
    if (run.pages > 0) yield run;
  } finally {
    closeSync(fd);
  }
}

/** How many pages of a region its page table has something for. */
export function presentPages(region: Region): number {
  let absent = 0;
  for (const { pages } of absentRuns(region)) absent += pages;
  return region.pages - absent;
}

/** UFFDIO_POISON for all that is absent; pages that come meanwhile stay. Needs Linux 6.6. */
export async function poisonAbsent(userfaultfd: Userfaultfd, region: Region): Promise<void> {
  for (const { page: first, pages } of absentRuns(region)) {
    const end = first + pages;
    let retries = 0;
    for (let page = first; page < end;) {
      const { kind, bytes } = userfaultfd.poison({ region, page, pages: end - page });
      if (kind === 'changing' && retries++ < MOST_RETRIES) await nextTurn();
      else page += kind === 'installed' || kind === 'partial' ? bytes / region.pageSize : 1;
    }
  }
}
