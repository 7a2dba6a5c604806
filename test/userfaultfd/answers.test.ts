// Every answer and every outcome, on real faults.
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { KernelError, Mapping } from '../../dist/index.js';
import { outcomeOf } from '../../dist/userfaultfd/outcome.js';
import { deadline, within } from '../support/deadline.js';
import {
  PAGE,
  filled,
  mappingOf,
  nextFault,
  registeredAnonymous,
  registeredMemfd,
  userfaultfd,
} from '../support/memory.js';
import { requires } from '../support/requires.js';

const installed = { kind: 'installed', bytes: PAGE };

beforeEach((context) => {
  requires(context, 'uffd-minor');
});

test('copy answers a missing page of shared memory', async () => {
  const { mapping, uffd } = registeredMemfd(4);
  const reading = mapping.read(2 * PAGE + 5, 3, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault).toMatchObject({ type: 'pagefault', reason: 'missing', write: false, page: 2, threadId: 0 });
  expect(fault.address).toBe(mapping.address + BigInt(2 * PAGE));
  expect(uffd.copy(fault, filled('c'))).toEqual(installed);
  expect((await reading).toString()).toBe('ccc');
});

test('continue answers a minor fault with what is in the page cache', async () => {
  const { memfd, mapping, uffd } = registeredMemfd(4);
  memfd.write(filled('m'), PAGE);
  const reading = mapping.read(PAGE, 2, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault).toMatchObject({ reason: 'minor', write: false, page: 1 });
  expect(uffd.continue(fault)).toEqual(installed);
  expect((await reading).toString()).toBe('mm');
});

test('pwrite and continue answer a missing page, as the server fills', async () => {
  const { memfd, mapping, uffd } = registeredMemfd(1);
  const reading = mapping.read(0, 2, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault.reason).toBe('missing');
  memfd.write(filled('w'), 0);
  expect(uffd.continue(fault)).toEqual(installed);
  expect((await reading).toString()).toBe('ww');
});

test('a write says so, minor and missing', async () => {
  const { memfd, mapping, uffd } = registeredMemfd(2);
  memfd.write(filled('m'), 0);
  for (const [page, reason] of [
    [0, 'minor'],
    [1, 'missing'],
  ] as const) {
    const writing = mapping.write(page * PAGE, filled('!', 1), { signal: deadline() });
    const fault = await nextFault(uffd);
    expect(fault).toMatchObject({ reason, write: true, page });
    expect(reason === 'minor' ? uffd.continue(fault) : uffd.copy(fault, filled('c'))).toEqual(installed);
    await writing;
  }
  expect((await mapping.read(0, 2, { signal: deadline() })).toString()).toBe('!m');
  expect((await mapping.read(PAGE, 2, { signal: deadline() })).toString()).toBe('!c');
});

test('zeropage maps zeroes', async () => {
  for (const { mapping, uffd } of [registeredMemfd(1), registeredAnonymous(1)]) {
    const reading = mapping.read(0, 2, { signal: deadline() });
    expect(uffd.zeropage(await nextFault(uffd))).toEqual(installed);
    expect(await reading).toEqual(filled(0, 2));
  }
});

test('a write to a zeropage of private memory stays', async () => {
  const { mapping, uffd } = registeredAnonymous(1);
  const writing = mapping.write(1, filled('w', 1), { signal: deadline() });
  uffd.zeropage(await nextFault(uffd));
  await writing;
  expect((await mapping.read(0, 3, { signal: deadline() })).toString()).toBe('\0w\0');
});

test('poison, and copy heals it', async (context) => {
  requires(context, 'uffd-poison');
  const { mapping, uffd, region } = registeredMemfd(1);
  const failing = expect(mapping.read(0, 1, { signal: deadline() })).rejects.toMatchObject({
    signal: 'SIGBUS',
    page: 0,
  });
  expect(uffd.poison(await nextFault(uffd))).toEqual(installed);
  await failing;
  expect(uffd.poison({ region, page: 0 }).kind).toBe('already');
  expect(uffd.copy({ region, page: 0 }, filled('h'))).toEqual(installed);
  expect((await mapping.read(0, 1, { signal: deadline() })).toString()).toBe('h');
});

test.for(['copy', 'zeropage', 'continue', 'poison'] as const)(
  '%s with dontWake leaves the thread asleep',
  async (answer, context) => {
    if (answer === 'poison') requires(context, 'uffd-poison');
    const { memfd, mapping, uffd } = registeredMemfd(1);
    if (answer === 'continue') memfd.write(filled('d'), 0);
    let ended = false;
    const touching = mapping.touch(0, 1, { signal: deadline() }).catch(() => undefined);
    void touching.finally(() => (ended = true));
    const fault = await nextFault(uffd);
    const outcome =
      answer === 'copy' ? uffd.copy(fault, filled('d'), { dontWake: true }) : uffd[answer](fault, { dontWake: true });
    expect(outcome).toEqual(installed);
    await delay(50);
    expect(ended).toBe(false);
    uffd.wake(fault);
    await within(touching, 'the woken touch', 1000);
  },
);

test('wake with nothing mapped: the thread faults again', async () => {
  const { mapping, uffd } = registeredMemfd(1);
  const reading = mapping.read(0, 1, { signal: deadline() });
  const first = await nextFault(uffd);
  uffd.wake(first);
  const second = await nextFault(uffd);
  expect(second).toMatchObject({ reason: 'missing', page: first.page });
  uffd.copy(second, filled('2'));
  expect((await reading).toString()).toBe('2');
});

test('several pages at once', async () => {
  const { memfd, mapping, uffd, region } = registeredMemfd(8);
  memfd.write(Buffer.concat([filled('a'), filled('b'), filled('c')]), 0);
  expect(uffd.continue({ region, page: 0, pages: 3 })).toEqual({ kind: 'installed', bytes: 3 * PAGE });
  expect(uffd.copy({ region, page: 3 }, filled('d', 2 * PAGE))).toEqual({ kind: 'installed', bytes: 2 * PAGE });
  expect(uffd.zeropage({ region, page: 5, pages: 3 })).toEqual({ kind: 'installed', bytes: 3 * PAGE });
  const bytes = await mapping.read(0, 8 * PAGE, { signal: deadline() });
  expect(Array.from({ length: 8 }, (_, page) => bytes[page * PAGE])).toEqual([97, 98, 99, 100, 100, 0, 0, 0]);
});

test('two threads on one page: two messages, one answer wakes both', async () => {
  const { mapping, uffd } = registeredMemfd(1);
  const signal = deadline();
  const reading = Promise.all([mapping.read(0, 1, { signal }), mapping.read(1, 1, { signal })]);
  const first = await nextFault(uffd);
  await nextFault(uffd);
  expect(uffd.copy(first, filled('b'))).toEqual(installed);
  expect((await reading).map(String)).toEqual(['b', 'b']);
});

test('already: the page is mapped', (context) => {
  requires(context, 'uffd-poison');
  const { uffd, region } = registeredMemfd(1);
  const at = { region, page: 0 };
  expect(uffd.copy(at, filled(1))).toEqual(installed);
  const already = { kind: 'already', bytes: 0 };
  expect([uffd.copy(at, filled(2)), uffd.zeropage(at), uffd.continue(at), uffd.poison(at)]).toEqual([
    already,
    already,
    already,
    already,
  ]);
});

test('already: the page is in the page cache though no page table has it', async () => {
  const { memfd, mapping, uffd, region } = registeredMemfd(1);
  memfd.write(filled('o'), 0);
  expect(uffd.copy({ region, page: 0 }, filled('n')).kind).toBe('already');
  expect(uffd.continue({ region, page: 0 })).toEqual(installed);
  expect((await mapping.read(0, 1, { signal: deadline() })).toString()).toBe('o');
});

test('absent: nothing to continue with', () => {
  const { uffd, region } = registeredMemfd(2);
  expect(uffd.continue({ region, page: 1 })).toEqual({ kind: 'absent', bytes: 0 });
});

test('absent: the registration is gone', () => {
  const { mapping, uffd, region } = registeredMemfd(1);
  uffd.unregister(mapping);
  expect(uffd.copy({ region, page: 0 }, filled(1))).toEqual({ kind: 'absent', bytes: 0 });
  expect(uffd.zeropage({ region, page: 0 }).kind).toBe('absent');
});

test('absent: beyond the end of a memfd that shrank', () => {
  const { memfd, uffd, region } = registeredMemfd(2);
  memfd.resize(PAGE);
  // EFAULT, but ENOMEM since 7.3.
  expect(['absent', 'exhausted']).toContain(uffd.copy({ region, page: 1 }, filled(1)).kind);
  expect(uffd.copy({ region, page: 0 }, filled(1)).kind).toBe('installed');
});

test('partial: a page in the middle is there already', async () => {
  const { memfd, mapping, uffd, region } = registeredMemfd(6);
  expect(uffd.copy({ region, page: 3 }, filled('3'))).toEqual(installed);
  const partial = { kind: 'partial', bytes: 3 * PAGE };
  expect(uffd.copy({ region, page: 0 }, filled('p', 6 * PAGE))).toEqual(partial);
  expect(uffd.continue({ region, page: 3, pages: 3 }).kind).toBe('already');
  expect(await mapping.read(0, 4 * PAGE, { signal: deadline() })).toEqual(
    Buffer.concat([filled('p', 3 * PAGE), filled('3')]),
  );
  memfd.write(filled('c'), 4 * PAGE);
  expect(uffd.continue({ region, page: 4, pages: 2 })).toEqual({ kind: 'partial', bytes: PAGE });
  expect(uffd.continue({ region, page: 5 }).kind).toBe('absent');
});

test('what no retry mends is an exception with ioctl and page', () => {
  const { uffd, mapping, region } = registeredAnonymous(2);
  const unaligned = mapping.address + 1n;
  expect(() => uffd.move({ region, page: 1 }, unaligned)).toThrow(
    expect.objectContaining({
      code: 'EINVAL',
      errno: -22,
      syscall: 'UFFDIO_MOVE',
      message: expect.stringContaining('page 1') as string,
    }),
  );
});

test.each([
  [-1, undefined],
  [2, undefined],
  [0, 3],
  [0, 0],
  [0.5, undefined],
  [Number.NaN, 1],
])('page %d, %s pages is out of range', (page, pages) => {
  const { uffd, region } = registeredMemfd(2);
  const at = pages === undefined ? { region, page } : { region, page, pages };
  const outOfRange = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }) as Error;
  expect(() => uffd.continue(at)).toThrow(outOfRange);
  expect(() => uffd.zeropage(at)).toThrow(outOfRange);
  expect(() => {
    uffd.wake(at);
  }).toThrow(outOfRange);
});

test('copy takes whole pages only', () => {
  const { uffd, region } = registeredMemfd(2);
  for (const bytes of [0, 1, PAGE + 1, 3 * PAGE]) {
    expect(() => uffd.copy({ region, page: 0 }, filled(1, bytes))).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    );
  }
});

test('only the registered mapping is served: another of the same memory shows holes', async () => {
  const { memfd, mapping, uffd } = registeredMemfd(1);
  expect(await mappingOf(memfd).read(0, 1, { signal: deadline() })).toEqual(filled(0, 1));
  const reading = mapping.read(0, 1, { signal: deadline() });
  // The other mapping's touch made the page: a MINOR fault of a page nobody filled.
  const fault = await nextFault(uffd);
  expect(fault.reason).toBe('minor');
  uffd.continue(fault);
  await reading;
});

test('a mapping that took the place of an unmapped one has the faults', async () => {
  const uffd = userfaultfd();
  const old = Mapping.anonymous(PAGE);
  uffd.register(old, ['missing']);
  old.unmap();
  const mapping = Mapping.anonymous(PAGE);
  expect(mapping.address).toBe(old.address);
  const region = uffd.register(mapping, ['missing']);
  const touching = mapping.touch(0, PAGE, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault.region).toBe(region);
  uffd.zeropage(fault);
  await touching;
  mapping.unmap();
});

test.each([
  [PAGE, 'installed', PAGE],
  [1, 'partial', 1],
  [0, 'partial', 0],
  [-2, 'absent', 0],
  [-3, 'gone', 0],
  [-11, 'changing', 0],
  [-14, 'absent', 0],
  [-17, 'already', 0],
  [-12, 'exhausted', 0],
])('outcome of %d is %s', (result, kind, bytes) => {
  expect(outcomeOf(result, PAGE, 'UFFDIO_COPY', 'page 1')).toEqual({ kind, bytes });
});

test.each([-1, -9, -22, -25])('%d is no outcome', (errno) => {
  const { kind, error } = outcomeOf(errno, PAGE, 'UFFDIO_COPY', 'page 1');
  expect(kind).toBe('failed');
  expect(error).toBeInstanceOf(KernelError);
  expect(error).toMatchObject({ errno, syscall: 'UFFDIO_COPY' });
});
