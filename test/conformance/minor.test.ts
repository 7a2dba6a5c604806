// Minor faults, on every memory kind with a page cache: pages that are there without being mapped, and the holes between.
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Mapping, Memfd, pageEntries } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { nextFault } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { smapsBytes } from '../support/smaps.js';
import { alignedForThp, hugeBytes, memfdForThp } from '../support/thp.js';
import { HUGE } from '../support/huge-pages.js';
import { PAGE, filled, userfaultfd } from '../support/memory.js';
import { isFilled, needsOf, ownMemories, prepare } from './memories.js';

const pageOf = (value: number, bytes: number) => Buffer.alloc(bytes, value);
const signal = () => deadline(8000);

/** Of shared memory smaps alone tells it: no page table has the page. */
const swappedBytes = (mapping: Mapping) => smapsBytes(mapping, 'Swap');

describe.each(ownMemories)('on $name', (memory) => {
  const { name, pageSize, minor, shared, huge, wp } = memory;
  needsOf(memory);

  test('continue: the page of the page cache, then already; absent where there is none', async () => {
    if (!minor) {
      const { uffd, region } = prepare(memory, 1, ['missing']);
      expect(() => uffd.continue({ region, page: 0 })).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOR_MEMORY' }));
      return;
    }
    const { uffd, mapping, cache } = prepare(memory, 2, ['missing', 'minor']);
    await cache(1, 3);
    const reading = mapping.read(pageSize, pageSize, { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'minor', page: 1 });
    expect(uffd.continue(fault).kind).toBe('installed');
    expect(isFilled(await reading, 3)).toBe(true);
    expect(uffd.continue(fault).kind).toBe('already');
    expect(uffd.continue({ region: fault.region, page: 0 }).kind).toBe('absent');
  });

  if (!minor) {
    test('swapped out: it comes back by itself, and nobody is told', async (context) => {
      const { uffd, mapping, region } = prepare(memory, 1, ['missing']);
      expect(uffd.copy({ region, page: 0 }, pageOf(3, pageSize)).kind).toBe('installed');
      mapping.advise('pageOut');
      if (pageEntries(mapping)[0]?.swapped !== true) context.skip('swap: the page was not swapped out');
      expect((await mapping.read(0, 1, { signal: signal() }))[0]).toBe(3);
      expect(uffd.queue).toEqual({ pending: 0, total: 0 });
    });
    return;
  }

  for (const writeProtect of wp ? [false, true] : [false]) {
    test(`${writeProtect ? 'minor-wp' : 'minor'}: what the handler makes of the page is what both mappings have`, async (context) => {
      // CONTINUE with WP is of the same release.
      if (writeProtect) requires(context, 'uffd-wp-shmem', 'uffd-wp-unpopulated');
      const pages = 4;
      const { uffd, mapping, memfd, cache } = prepare(memory, pages, writeProtect ? ['minor', 'wp'] : ['minor']);
      using alias = Mapping.map(memfd!, { noReserve: true });
      for (let page = 0; page < pages; page++) await cache(page, page + 1);
      for (let page = 0; page < pages; page++) {
        const at = page * pageSize;
        const reading = mapping.read(at, pageSize, { signal: signal() });
        const fault = await nextFault(uffd, signal());
        expect(fault).toMatchObject({ reason: 'minor', page });
        await alias.write(at, pageOf(~(page + 1) & 0xff, pageSize));
        expect(uffd.continue(fault, { writeProtect }).kind).toBe('installed');
        expect(isFilled(await reading, ~(page + 1) & 0xff)).toBe(true);
        if (!writeProtect) continue;
        const writing = mapping.write(at, pageOf(page, 1), { signal: signal() });
        const second = await nextFault(uffd, signal());
        expect(second).toMatchObject({ reason: 'wp', page });
        uffd.writeProtect(second, { protect: false });
        await writing;
        expect((await mapping.read(at, 1))[0]).toBe(page);
        expect((await alias.read(at, 1))[0]).toBe(shared ? page : ~(page + 1) & 0xff);
      }
    });
  }

  test('minor alone: a hole is filled with zeroes, and nobody is told', async () => {
    const { uffd, mapping } = prepare(memory, 1, ['minor']);
    expect((await mapping.read(0, 1, { signal: signal() }))[0]).toBe(0);
    expect(uffd.queue).toEqual({ pending: 0, total: 0 });
  });

  test('allocated, never written: there, and a minor fault', async () => {
    const { uffd, mapping, memfd } = prepare(memory, 1, ['missing', 'minor']);
    memfd!.allocate(0, pageSize);
    const reading = mapping.read(0, 1, { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault.reason).toBe('minor');
    expect(uffd.continue(fault).kind).toBe('installed');
    expect((await reading)[0]).toBe(0);
  });

  test('continue where only missing is registered: the page is mapped all the same', async () => {
    const { uffd, mapping, region, cache } = prepare(memory, 1, ['missing']);
    await cache(0, 6);
    expect(uffd.continue({ region, page: 0 }).kind).toBe('installed');
    expect((await mapping.read(0, 1, { signal: signal() }))[0]).toBe(6);
  });

  test('punched between the message and the answer: absent, and after a wake a missing fault', async () => {
    const { uffd, mapping, memfd, cache } = prepare(memory, 1, ['missing', 'minor']);
    await cache(0, 3);
    const reading = mapping.read(0, 1, { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault.reason).toBe('minor');
    memfd!.punchHole(0, pageSize);
    expect(uffd.continue(fault).kind).toBe('absent');
    uffd.wake(fault);
    const again = await nextFault(uffd, signal());
    expect(again.reason).toBe('missing');
    uffd.copy(again, pageOf(6, pageSize));
    expect((await reading)[0]).toBe(6);
  });

  test('copy to a page of the page cache that is not mapped: already where the page cache is shared', async () => {
    const { uffd, mapping, region, cache } = prepare(memory, 1, ['missing', 'minor']);
    await cache(0, 3);
    // A private mapping gets a page of its own.
    expect(uffd.copy({ region, page: 0 }, pageOf(1, pageSize)).kind).toBe(shared ? 'already' : 'installed');
    if (shared) expect(uffd.continue({ region, page: 0 }).kind).toBe('installed');
    expect((await mapping.read(0, 1, { signal: signal() }))[0]).toBe(shared ? 3 : 1);
  });

  // The size of a guest_memfd is fixed.
  if (name !== 'guest_memfd') {
    test('cut off behind the message: absent or refused, and the thread gets its SIGBUS', async () => {
      const { uffd, mapping, memfd, cache } = prepare(memory, 2, ['missing', 'minor']);
      if (!(memfd instanceof Memfd)) throw new Error('no memfd');
      await cache(1, 3);
      const reading = mapping.read(pageSize, 1, { signal: signal() });
      const caught = reading.catch((error: unknown) => error);
      const fault = await nextFault(uffd, signal());
      memfd.resize(pageSize);
      // A private huge page does not ask where the file ends.
      const ownEnd = huge && !shared;
      // EFAULT, but ENOMEM of shared memory since 7.3.
      expect(ownEnd ? ['installed'] : ['absent', 'exhausted']).toContain(uffd.copy(fault, pageOf(1, pageSize)).kind);
      if (ownEnd) {
        expect((await reading)[0]).toBe(1);
        return;
      }
      // EINVAL up to 6.18, EFAULT since.
      const [outcome] = uffd.answer([{ answer: 'continue', at: fault }]);
      if (outcome!.kind === 'failed') expect(outcome!.error).toMatchObject({ code: 'EINVAL' });
      else expect(outcome!.kind).toBe('absent');
      uffd.wake(fault);
      expect(await caught).toMatchObject({ code: 'ERR_MEMORY_FAULT', signal: 'SIGBUS', page: 1 });
    });
  }

  // guest_memfd is not swapped.
  if (!huge && name !== 'guest_memfd') {
    test('swapped out: in the page cache all the same, and continue brings it back', async (context) => {
      const { uffd, mapping, memfd, cache } = prepare(memory, 1, ['missing', 'minor']);
      await cache(0, 3);
      using alias = Mapping.map(memfd!);
      // A page that is new is not on a list to be taken from at once.
      for (let round = 0; round < 20 && swappedBytes(alias) === 0; round++) {
        await alias.touch();
        alias.advise('pageOut');
        await delay(20);
      }
      if (swappedBytes(alias) === 0) context.skip('swap: the page was not swapped out');
      const reading = mapping.read(0, 1, { signal: signal() });
      const fault = await nextFault(uffd, signal());
      expect(fault.reason).toBe('minor');
      expect(uffd.continue(fault).kind).toBe('installed');
      expect((await reading)[0]).toBe(3);
    });
  }

  if (!shared) {
    test('continue of a private mapping: what is written there stays there', async () => {
      const { uffd, mapping, memfd, region, cache } = prepare(memory, 1, ['missing', 'minor']);
      await cache(0, 3);
      expect(uffd.continue({ region, page: 0 }).kind).toBe('installed');
      await mapping.write(0, pageOf(9, 1), { signal: signal() });
      using alias = Mapping.map(memfd!, { noReserve: true });
      expect((await alias.read(0, 1))[0]).toBe(3);
      expect((await mapping.read(0, 1))[0]).toBe(9);
    });
  }

  if (name === 'shmem') {
    test('minor-collapse: one huge page, the right bytes, no more messages', async (context) => {
      requires(context, 'uffd-minor', 'thp', 'pagemap-scan', 'madv-collapse');
      const { memfd, offset } = memfdForThp();
      const { mapping, at } = alignedForThp(memfd);
      const uffd = userfaultfd();
      const region = uffd.register(mapping, ['minor']);
      for (let page = 0; page < HUGE / PAGE; page++) memfd.write(filled((page % 250) + 1), offset + page * PAGE);
      expect(uffd.continue({ region, page: at / PAGE, pages: HUGE / PAGE })).toEqual({
        kind: 'installed',
        bytes: HUGE,
      });
      mapping.advise('collapse', at, HUGE);
      await mapping.touch(at, HUGE, { signal: deadline() });
      expect(hugeBytes(mapping)).toBe(HUGE);
      const bytes = await mapping.read(at, HUGE, { signal: deadline() });
      for (let page = 0; page < HUGE / PAGE; page++) expect(bytes[page * PAGE]).toBe((page % 250) + 1);
      expect(uffd.queue).toEqual({ pending: 0, total: 0 });
    });
  }
});
