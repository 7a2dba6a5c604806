// Registering and filling, on every memory kind: what the kernel's unit tests call register-ioctls, zeropage, minor and
// poison, and what each answer says where it cannot be given.
import { beforeEach, describe, expect, test } from 'vitest';
import type { AnswerName, RegisterModeName } from '../../dist/index.js';
import { deadline, milliseconds } from '../support/deadline.js';
import { reserveHugePages } from '../support/huge-pages.js';
import { nextFault } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { memories, prepare } from './memories.js';

const noHugePages = reserveHugePages(16);
const pageOf = (value: number, bytes: number) => Buffer.alloc(bytes, value);

describe.each(memories)('on $name', (memory) => {
  const { pageSize, minor, huge, shared, needs } = memory;
  const signal = () => deadline(8000);

  beforeEach((context) => {
    requires(context, ...needs);
    const why = noHugePages();
    if (huge && why !== undefined) context.skip(`hugetlb-2M: ${why}`);
  });

  const always: AnswerName[] = ['wake', 'copy', 'poison'];
  const small: AnswerName[] = huge ? [] : ['zeropage', 'move'];
  test.each<[RegisterModeName[], AnswerName[]]>([
    [['missing'], [...always, ...small]],
    [['wp'], [...always, ...small, 'writeprotect']],
    [['minor'], [...always, ...small, 'continue']],
    [
      ['missing', 'wp'],
      [...always, ...small, 'writeprotect'],
    ],
    [
      ['missing', 'wp', 'minor'],
      [...always, ...small, 'writeprotect', 'continue'],
    ],
  ])('register %j: the answers the kernel offers', (modes, answers) => {
    const register = () => [...prepare(memory, 2, modes).region.answers].filter((name) => name !== 'rwprotect').sort();
    if (modes.includes('minor') && !minor) {
      expect(register).toThrow(
        expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('no page cache') as string }),
      );
    } else expect(register()).toEqual(answers.sort());
  });

  test('zeropage: zeroes, then already; where there is none, refused before the call', async () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['missing']);
    const zeropage = () => uffd.zeropage({ region, page: 1 }).kind;
    if (huge) {
      expect(zeropage).toThrow(expect.objectContaining({ code: 'ERR_NOT_FOR_MEMORY' }));
      return;
    }
    expect([zeropage(), zeropage()]).toEqual(['installed', 'already']);
    expect(await mapping.read(pageSize, pageSize, { signal: signal() })).toEqual(pageOf(0, pageSize));
  });

  test('copy: a waiting thread reads the bytes; then already; partial in front of a page that is there', async () => {
    const { uffd, mapping, region } = prepare(memory, 4, ['missing']);
    const reading = mapping.read(0, pageSize, { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'missing', write: false, page: 0 });
    expect(uffd.copy(fault, pageOf(7, pageSize))).toEqual({ kind: 'installed', bytes: pageSize });
    expect(await reading).toEqual(pageOf(7, pageSize));
    expect(uffd.copy(fault, pageOf(8, pageSize)).kind).toBe('already');
    expect(uffd.copy({ region, page: 3 }, pageOf(9, pageSize)).kind).toBe('installed');
    expect(uffd.copy({ region, page: 1 }, pageOf(5, 3 * pageSize))).toEqual({ kind: 'partial', bytes: 2 * pageSize });
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
    expect(await reading).toEqual(pageOf(3, pageSize));
    expect(uffd.continue(fault).kind).toBe('already');
    expect(uffd.continue({ region: fault.region, page: 0 }).kind).toBe('absent');
  });

  if (minor) {
    test('minor alone: a hole is filled with zeroes, and nobody is told', async () => {
      const { uffd, mapping } = prepare(memory, 1, ['minor']);
      expect((await mapping.read(0, 1, { signal: signal() }))[0]).toBe(0);
      expect(uffd.queue).toEqual({ pending: 0, total: 0 });
    });
  }

  if (minor) {
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
  }

  if (minor) {
    test('copy to a page of the page cache that is not mapped: already where the page cache is shared', async () => {
      const { uffd, region, cache } = prepare(memory, 1, ['missing', 'minor']);
      await cache(0, 3);
      // A private mapping gets a page of its own.
      expect(uffd.copy({ region, page: 0 }, pageOf(1, pageSize)).kind).toBe(shared ? 'already' : 'installed');
    });
  }

  if (minor && !shared) {
    test('continue of a private mapping: what is written there stays there', async () => {
      const { uffd, mapping, memfd, region, cache } = prepare(memory, 1, ['missing', 'minor']);
      await cache(0, 3);
      expect(uffd.continue({ region, page: 0 }).kind).toBe('installed');
      await mapping.write(0, pageOf(9, 1), { signal: signal() });
      using alias = (await import('../../dist/index.js')).Mapping.map(memfd!, { noReserve: true });
      expect((await alias.read(0, 1))[0]).toBe(3);
      expect((await mapping.read(0, 1))[0]).toBe(9);
    });
  }

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

test('an empty huge page pool is exhausted, never already', async (context) => {
  requires(context, 'uffd', 'root', 'hugetlb-2M');
  const why = noHugePages();
  if (why !== undefined) context.skip(`hugetlb-2M: ${why}`);
  const memory = memories.find(({ name }) => name === 'hugetlb')!;
  const { uffd, region, mapping } = prepare(memory, 64, ['missing']);
  const outcomes: string[] = [];
  const bytes = pageOf(1, memory.pageSize);
  for (let page = 0; page < 64 && outcomes.at(-1) !== 'exhausted'; page++) {
    outcomes.push(uffd.copy({ region, page }, bytes).kind);
  }
  expect(outcomes.filter((kind) => kind === 'installed').length).toBeGreaterThanOrEqual(8);
  expect(outcomes.at(-1)).toBe('exhausted');
  expect(uffd.copy({ region, page: 0 }, bytes).kind).toBe('already');
  expect((await mapping.read(0, 1, { signal: deadline() }))[0]).toBe(1);
});
