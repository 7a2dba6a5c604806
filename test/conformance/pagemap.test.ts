// What PAGEMAP_SCAN says of write-protected memory, as the kernel's pagemap_ioctl asks it: which pages were written, taken
// and protected again in one step, over holes, huge pages and mprotect(2), with writers who do not stop.
import { closeSync, openSync } from 'node:fs';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Mapping, type ScanOptions, pageEntries, scanPages } from '../../dist/index.js';
import { native } from '../../dist/native/load.js';
import { deadline, times } from '../support/deadline.js';
import { HUGE } from '../support/huge-pages.js';
import { PAGE, anonymousMapping, nextFault, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { smapsBytes } from '../support/smaps.js';
import { hugePage } from '../support/thp.js';
import { memories, needsOf, prepare } from './memories.js';

const signal = () => deadline(8000);

beforeEach((context) => {
  requires(context, 'uffd', 'uffd-wp-async', 'pagemap-scan');
});

/** Numbers of the pages in the runs of a scan. */
function pagesOf(mapping: Mapping, options: ScanOptions): number[] {
  const size = mapping.pageSize;
  return [...scanPages(mapping, options)].flatMap(({ offset, lengthBytes }) =>
    Array.from({ length: lengthBytes / size }, (_, page) => offset / size + page),
  );
}
const written = (mapping: Mapping) => pagesOf(mapping, { allOf: ['written'] });
/** Pages written since the last time, which are protected again by it. */
const taken = (mapping: Mapping, span = {}) => pagesOf(mapping, { ...span, allOf: ['written'], writeProtect: true });

test('sanity_tests: a request that makes no sense is an errno, not an answer', () => {
  const mapping = anonymousMapping(4);
  const fd = openSync('/proc/self/pagemap', 'r');
  onTestFinished(() => {
    closeSync(fd);
  });
  const [end, present] = [mapping.address + BigInt(4 * PAGE), 8n];
  const scan = (words: Record<number, bigint>) => {
    const request = new BigUint64Array(12);
    for (const [index, word] of Object.entries({ 2: mapping.address, 3: end, 9: present, 11: present, ...words })) {
      request[Number(index)] = word;
    }
    return native().scanPages(fd, request, new BigUint64Array(3 * 4));
  };
  const [EINVAL, EFAULT, EPERM] = [-22, -14, -1];
  expect(scan({})).toBe(0);
  // Flags, start, and each of the four masks of categories.
  expect(scan({ 1: 1n << 40n })).toBe(EINVAL);
  expect(scan({ 2: mapping.address + 1n })).toBe(EINVAL);
  for (const mask of [8, 9, 10, 11]) expect(scan({ [mask]: 1n << 40n })).toBe(EINVAL);
  expect(scan({ 2: 1n << 63n, 3: (1n << 63n) + 4096n })).toBe(EFAULT);
  // To be protected, and no userfaultfd that would do it by itself.
  expect([0, EPERM]).toContain(scan({ 1: 3n }));
  expect(scan({ 2: end, 3: end })).toBe(0);
});

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize, huge } = memory;
  needsOf(memory);
  const write = (mapping: Mapping, page: number) =>
    mapping.write(page * pageSize, Buffer.of(page + 1), { signal: signal() });

  test('base_tests: every page, some, none; in a part of the range; and no message', async () => {
    const pages = 6;
    const { uffd, mapping, region } = prepare(memory, pages, ['wp'], ['wpAsync']);
    const all = [0, 1, 2, 3, 4, 5];
    for (const page of all) await write(mapping, page);
    expect(written(mapping)).toEqual(all);
    expect(taken(mapping)).toEqual(all);
    expect(written(mapping)).toEqual([]);
    for (const page of [0, 2, 3, 5]) await write(mapping, page);
    expect(written(mapping)).toEqual([0, 2, 3, 5]);
    // Looking does not take.
    expect(written(mapping)).toEqual([0, 2, 3, 5]);
    expect(taken(mapping, { offset: pageSize, lengthBytes: 2 * pageSize })).toEqual([2]);
    expect(taken(mapping)).toEqual([0, 3, 5]);
    expect(pagesOf(mapping, { not: ['written'] })).toEqual(all);
    uffd.writeProtect({ region, page: 1 }, { protect: false });
    expect(written(mapping)).toEqual([1]);
    const bytes = await Promise.all(all.map((page) => mapping.read(page * pageSize, 1)));
    expect(bytes.map(([byte]) => byte)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(uffd.queue.total).toBe(0);
  });

  test('userfaultfd_tests: protection by answers and by scans is the same one', async () => {
    const { uffd, mapping, region } = prepare(memory, 4, ['wp'], ['wpAsync']);
    for (const page of [0, 1, 2, 3]) await write(mapping, page);
    uffd.writeProtect({ region, page: 1, pages: 2 });
    expect(written(mapping)).toEqual([0, 3]);
    expect(taken(mapping)).toEqual([0, 3]);
    uffd.writeProtect({ region, page: 3 }, { protect: false });
    expect(written(mapping)).toEqual([3]);
    const each = pageSize / PAGE;
    const bits = pageEntries(mapping).map((entry) => entry.writeProtected);
    expect(bits).toEqual(Array.from({ length: 4 * each }, (_, at) => at < 3 * each));
  });

  test('a scan is not asynchronous for a userfaultfd that is not: the write is a fault, and shows afterwards', async () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['wp']);
    for (const page of [0, 1]) await write(mapping, page);
    expect(() => taken(mapping)).toThrow(expect.objectContaining({ code: 'EPERM' }));
    uffd.writeProtect({ region, page: 0, pages: 2 });
    expect(written(mapping)).toEqual([]);
    const writing = write(mapping, 1);
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'wp', page: 1 });
    expect(written(mapping)).toEqual([]);
    uffd.writeProtect(fault, { protect: false });
    await writing;
    expect(written(mapping)).toEqual([1]);
  });

  test('transact_test: with writers who do not stop, what was taken makes up a copy that is complete', async () => {
    const pages = huge ? 4 : 64;
    const { mapping } = prepare(memory, pages, ['wp'], ['wpAsync']);
    await mapping.write(0, Buffer.alloc(pages * pageSize, 1), { signal: signal() });
    const copy = Buffer.alloc(pages * pageSize);
    let writing = true;
    let writes = 0;
    const writer = async (index: number) => {
      for (; writing; writes++) {
        const page = Math.floor(Math.random() * pages);
        await mapping.write(page * pageSize + 8 * index, Buffer.of(writes % 256), { signal: signal() });
      }
    };
    const writers = [0, 1, 2].map(writer);
    const copyTaken = async () => {
      let sum = 0;
      for (const run of [...scanPages(mapping, { allOf: ['written'], writeProtect: true })]) {
        (await mapping.read(run.offset, run.lengthBytes, { signal: signal() })).copy(copy, run.offset);
        sum += run.lengthBytes / pageSize;
      }
      return sum;
    };
    let rounds = 0;
    for (; rounds < times(20) || writes < times(200); rounds++) await copyTaken();
    writing = false;
    await Promise.all(writers);
    expect(await copyTaken()).toBeLessThanOrEqual(pages);
    expect(await copyTaken()).toBe(0);
    expect(copy.equals(await mapping.read(0, pages * pageSize, { signal: signal() }))).toBe(true);
  });

  if (name === 'anon' || name === 'shmem' || name === 'hugetlb') {
    // Of huge pages a hole has nothing to keep protection in: it counts only once it is filled.
    test('unpopulated_scan_test: a hole counts as written until it is taken, and stays a hole', async () => {
      const { mapping } = prepare(memory, 4, ['wp'], ['wpAsync']);
      await write(mapping, 1);
      expect(taken(mapping)).toEqual(huge ? [1] : [0, 1, 2, 3]);
      expect(written(mapping)).toEqual([]);
      expect(pagesOf(mapping, { allOf: ['present'] })).toEqual([1]);
      await write(mapping, 2);
      await mapping.touch(3 * pageSize, 1, { signal: signal() });
      expect(taken(mapping)).toEqual(huge ? [2, 3] : [2]);
    });
  }

  if (name === 'anon' || name === 'shmem') {
    test('mprotect_tests: mprotect(2) neither writes pages nor forgets those that were', async () => {
      const { mapping } = prepare(memory, 4, ['wp'], ['wpAsync']);
      for (const page of [0, 1, 2, 3]) await write(mapping, page);
      taken(mapping);
      mapping.protect('read');
      mapping.protect('readwrite');
      expect(written(mapping)).toEqual([]);
      await write(mapping, 2);
      mapping.protect('read');
      expect(written(mapping)).toEqual([2]);
      mapping.protect('readwrite');
      expect(taken(mapping)).toEqual([2]);
      await write(mapping, 2);
      expect(taken(mapping)).toEqual([2]);
    });
  }
});

describe('on anon', () => {
  test('hpage_unit_tests: a huge page is taken whole, or in part and split by it', async (context) => {
    requires(context, 'thp');
    const { mapping, at } = await hugePage();
    const uffd = userfaultfd(['wpAsync']);
    uffd.register(mapping, ['wp']);
    const span = { offset: at, lengthBytes: HUGE };
    const all = Array.from({ length: HUGE / PAGE }, (_, page) => at / PAGE + page);
    expect(taken(mapping, span)).toEqual(all);
    expect(pagesOf(mapping, { ...span, allOf: ['huge'] })).toEqual(all);
    expect(pagesOf(mapping, { ...span, allOf: ['written'] })).toEqual([]);
    const first = at / PAGE;
    await mapping.write(at + 3 * PAGE, Buffer.of(1), { signal: signal() });
    const now = pagesOf(mapping, { ...span, allOf: ['written'] });
    expect(now).toContain(first + 3);
    // Of a part: the rest of what was written stays written.
    expect(taken(mapping, { offset: at + 3 * PAGE, lengthBytes: PAGE })).toEqual([first + 3]);
    expect(pagesOf(mapping, { ...span, allOf: ['written'] })).toEqual(now.filter((page) => page !== first + 3));
  });

  test('zeropfn_tests: a page that was only read is the page of zeroes', async (context) => {
    const mapping = anonymousMapping(3);
    await mapping.touch(0, 2 * PAGE, { signal: signal() });
    // The page of zeroes is nobody's memory: what smaps counts has one of its own. Some virtual machines want it so.
    if (smapsBytes(mapping, 'Rss') > 0) context.skip('zero page: this kernel has none to map');
    await mapping.write(PAGE, Buffer.of(1), { signal: signal() });
    expect(pagesOf(mapping, { allOf: ['zeroPage'] })).toEqual([0]);
    expect(pagesOf(mapping, { allOf: ['present'], not: ['zeroPage'] })).toEqual([1]);
  });
});
