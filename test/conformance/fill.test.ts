// Filling absent pages, on every memory kind: copies, zeroes and poison, and what each answer says where it cannot be given.
import { describe, expect, test } from 'vitest';
import { Userfaultfd } from '../../dist/index.js';
import { deadline, milliseconds } from '../support/deadline.js';
import { poolSize } from '../support/huge-pages.js';
import { nextFault } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { duplicate } from '../support/native.js';
import { isFilled, memories, needsOf, ownMemories, prepare } from './memories.js';

const pageOf = (value: number, bytes: number) => Buffer.alloc(bytes, value);
const signal = () => deadline(8000);

describe.each(ownMemories)('on $name', (memory) => {
  const { pageSize, minor, huge, shared } = memory;
  needsOf(memory);

  test('zeropage: zeroes, then already; where there is none, refused before the call', async () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['missing']);
    const zeropage = () => uffd.zeropage({ region, page: 1 }).kind;
    if (huge) {
      expect(zeropage).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOR_MEMORY' }));
      // The kernel says so too, to whoever does not say what memory it is.
      const { start, lengthBytes } = region;
      using other = Userfaultfd.adopt(duplicate(uffd.fd), [{ start, lengthBytes, pageSize }]);
      expect(() => other.zeropage({ region: other.regions[0]!, page: 1 })).toThrow(
        expect.objectContaining({ code: 'EINVAL', syscall: 'UFFDIO_ZEROPAGE' }),
      );
      return;
    }
    expect([zeropage(), zeropage()]).toEqual(['installed', 'already']);
    expect(isFilled(await mapping.read(pageSize, pageSize, { signal: signal() }), 0)).toBe(true);
  });

  test('copy: a waiting thread reads the bytes; then already; partial in front of a page that is there', async () => {
    const { uffd, mapping, region } = prepare(memory, 4, ['missing']);
    const reading = mapping.read(0, pageSize, { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'missing', write: false, page: 0 });
    expect(uffd.copy(fault, pageOf(7, pageSize))).toEqual({ kind: 'installed', bytes: pageSize });
    expect(isFilled(await reading, 7)).toBe(true);
    expect(uffd.copy(fault, pageOf(8, pageSize)).kind).toBe('already');
    expect(uffd.copy({ region, page: 3 }, pageOf(9, pageSize)).kind).toBe('installed');
    expect(uffd.copy({ region, page: 1 }, pageOf(5, 3 * pageSize))).toEqual({ kind: 'partial', bytes: 2 * pageSize });
    expect(isFilled(await mapping.read(2 * pageSize, pageSize, { signal: signal() }), 5)).toBe(true);
  });

  test('exactAddress: the byte that was touched, and still its page', async (context) => {
    requires(context, 'uffd-exact-address');
    const { uffd, mapping } = prepare(memory, 2, ['missing'], ['exactAddress']);
    const at = 2 * pageSize - 5;
    const reading = mapping.read(at, 1, { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ page: 1, address: mapping.address + BigInt(at) });
    expect(uffd.copy(fault, pageOf(6, pageSize)).kind).toBe('installed');
    expect((await reading)[0]).toBe(6);
  });

  test('two threads on one page: two messages, one answer for both', async () => {
    const { uffd, mapping, region } = prepare(memory, 1, ['missing']);
    const reading = [mapping.read(0, 1, { signal: signal() }), mapping.read(0, 1, { signal: signal() })];
    await expect.poll(() => uffd.queue.pending, { timeout: milliseconds(4000) }).toBe(2);
    uffd.copy({ region, page: 0 }, pageOf(4, pageSize));
    expect((await Promise.all(reading)).map((bytes) => bytes[0])).toEqual([4, 4]);
    // Resolved before they were read: gone from the queue.
    expect(uffd.queue).toEqual({ pending: 0, total: 0 });
  });

  test('poison: exactly the poisoned pages raise SIGBUS; copy heals, zeropage and poison find it there', async (context) => {
    requires(context, 'uffd-poison');
    const pages = 8;
    const { uffd, mapping, region } = prepare(memory, pages, ['missing']);
    for (let page = 0; page < pages; page++) {
      const outcome = page % 2 === 1 ? uffd.poison({ region, page }) : uffd.copy({ region, page }, pageOf(0, pageSize));
      expect(outcome.kind).toBe('installed');
    }
    const read = (page: number) =>
      mapping.read(page * pageSize, 1, { signal: signal() }).then(
        () => 'read',
        (error: unknown) => (error as { signal: string }).signal,
      );
    const got = await Promise.all(Array.from({ length: pages }, (_, page) => read(page)));
    expect(got).toEqual(Array.from({ length: pages }, (_, page) => (page % 2 === 1 ? 'SIGBUS' : 'read')));
    expect(uffd.poison({ region, page: 1 }).kind).toBe('already');
    // Shared memory gets a page of zeroes in the place of the marker.
    if (!huge) expect(uffd.zeropage({ region, page: 3 }).kind).toBe(shared ? 'installed' : 'already');
    expect(uffd.copy({ region, page: 1 }, pageOf(2, pageSize)).kind).toBe('installed');
    expect((await mapping.read(pageSize, 1, { signal: signal() }))[0]).toBe(2);
  });

  test('dontWake: asleep until WAKE; UNREGISTER wakes a minor waiter too', async () => {
    const { uffd, mapping, region, cache } = prepare(memory, 2, minor ? ['missing', 'minor'] : ['missing']);
    let woken = false;
    const reading = mapping.read(0, 1, { signal: signal() }).then(() => (woken = true));
    const fault = await nextFault(uffd, signal());
    uffd.copy(fault, pageOf(1, pageSize), { dontWake: true });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(woken).toBe(false);
    uffd.wake({ region, page: 0 });
    await reading;
    if (minor) await cache(1, 5);
    const waiting = mapping.read(pageSize, 1, { signal: signal() });
    await nextFault(uffd, signal());
    uffd.unregister(mapping);
    expect((await waiting)[0]).toBe(minor ? 5 : 0);
  });

  test('closing the userfaultfd wakes whoever waits', async () => {
    const { uffd, mapping } = prepare(memory, 1, ['missing']);
    const reading = mapping.read(0, 1, { signal: signal() });
    await nextFault(uffd, signal());
    uffd.close();
    expect((await reading)[0]).toBe(0);
  });
});

const hugetlb = memories.find(({ name }) => name === 'hugetlb')!;

describe('the pool of huge pages', () => {
  needsOf(hugetlb);

  test('empty, it is exhausted, never already', async () => {
    // Whatever the pool had before.
    const pages = poolSize() + 1;
    const { uffd, region, mapping } = prepare(hugetlb, pages, ['missing']);
    const outcomes: string[] = [];
    const bytes = pageOf(1, hugetlb.pageSize);
    for (let page = 0; page < pages && outcomes.at(-1) !== 'exhausted'; page++) {
      outcomes.push(uffd.copy({ region, page }, bytes).kind);
    }
    expect(outcomes.filter((kind) => kind === 'installed').length).toBeGreaterThanOrEqual(8);
    expect(outcomes.at(-1)).toBe('exhausted');
    expect(uffd.copy({ region, page: 0 }, bytes).kind).toBe('already');
    expect((await mapping.read(0, 1, { signal: deadline() }))[0]).toBe(1);
  });
});
