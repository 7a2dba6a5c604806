// Write protection and moving: each write seen, what the kernel resolves by itself, pages that change hands.
import { beforeEach, expect, test } from 'vitest';
import { Mapping, clearSoftDirty, pageEntries, scanPages } from '../../dist/index.js';
import type { FeatureName, Mapping as MappingType, Region, Userfaultfd } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { PAGE, anonymousMapping, filled, mappingOf, memfdOf, nextFault, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';

beforeEach((context) => {
  requires(context, 'uffd');
});

const PAGES = 8;

interface Written {
  readonly mapping: MappingType;
  readonly uffd: Userfaultfd;
  readonly region: Region;
}

/** Memory with content, registered for wp. */
async function written(memory: 'anonymous' | 'shmem', features: FeatureName[] = []): Promise<Written> {
  const mapping = memory === 'anonymous' ? anonymousMapping(PAGES) : mappingOf(memfdOf(PAGES));
  await mapping.write(0, filled(1, PAGES * PAGE));
  const uffd = userfaultfd(features);
  return { mapping, uffd, region: uffd.register(mapping, ['wp']) };
}

const kinds = ['anonymous', 'shmem'] as const;

test.each(kinds)(
  '%s: each write to a protected page is a wp fault, and goes on when protection is taken away',
  async (memory) => {
    const { mapping, uffd, region } = await written(memory);
    expect(uffd.writeProtect({ region, page: 0, pages: PAGES })).toEqual({ kind: 'installed', bytes: PAGES * PAGE });
    const writing = mapping.write(3 * PAGE, filled(9, 1), { signal: deadline() });
    const fault = await nextFault(uffd);
    expect(fault).toMatchObject({ reason: 'wp', write: true, page: 3 });
    // Readers are not held up.
    expect((await mapping.read(3 * PAGE, 1, { signal: deadline() }))[0]).toBe(1);
    uffd.writeProtect(fault, { protect: false });
    await writing;
    expect((await mapping.read(3 * PAGE, 1))[0]).toBe(9);
    const protectedPages = pageEntries(mapping).map((entry) => entry.writeProtected);
    expect(protectedPages).toEqual(Array.from({ length: PAGES }, (_, page) => page !== 3));
  },
);

test('unprotected without waking: the writer sleeps until WAKE', async () => {
  const { mapping, uffd, region } = await written('anonymous');
  uffd.writeProtect({ region, page: 0 });
  let done = false;
  const writing = mapping.write(0, filled(2, 1), { signal: deadline() }).then(() => (done = true));
  const fault = await nextFault(uffd);
  uffd.writeProtect(fault, { protect: false, dontWake: true });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(done).toBe(false);
  uffd.wake(fault);
  await writing;
});

test('write protection of what is not registered for it is absent, of no page is out of range', () => {
  const mapping = anonymousMapping(2);
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['missing']);
  expect(uffd.writeProtect({ region, page: 0 }).kind).toBe('absent');
  expect(() => uffd.writeProtect({ region, page: 2 })).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
});

test.for(kinds)('%s, wpAsync: written pages are found and protected again in one step', async (memory, context) => {
  requires(context, 'uffd-wp-async', 'pagemap-scan');
  const { mapping, uffd, region } = await written(memory, ['wpAsync']);
  uffd.writeProtect({ region, page: 0, pages: PAGES });
  const dirty = () =>
    [...scanPages(mapping, { allOf: ['written'], writeProtect: true })].map((run) => [
      run.offset / PAGE,
      run.lengthBytes / PAGE,
    ]);
  expect(dirty()).toEqual([]);
  for (const page of [1, 2, 5]) await mapping.write(page * PAGE, filled(7, 1), { signal: deadline() });
  expect(dirty()).toEqual([
    [1, 2],
    [5, 1],
  ]);
  expect(dirty()).toEqual([]);
  await mapping.write(7 * PAGE, filled(7, 1), { signal: deadline() });
  expect(dirty()).toEqual([[7, 1]]);
});

test('PAGEMAP_SCAN with write protection on memory without wpAsync is EPERM, and says what it takes', async (context) => {
  requires(context, 'pagemap-scan');
  const { mapping } = await written('anonymous');
  const scan = () => [...scanPages(mapping, { allOf: ['written'], writeProtect: true })];
  expect(scan).toThrow(
    expect.objectContaining({ code: 'EPERM', message: expect.stringContaining('wpAsync') as string }),
  );
});

test('scan: all of, any of, not; a span; more runs than one call has room for', async (context) => {
  requires(context, 'pagemap-scan');
  const pages = 2048;
  const mapping = anonymousMapping(pages);
  for (let page = 0; page < pages; page += 2) await mapping.touch(page * PAGE, 1, { write: true });
  const present = [...scanPages(mapping, { allOf: ['present'] })];
  expect(present.length).toBe(pages / 2);
  expect(present.every((run, index) => run.offset === index * 2 * PAGE && run.lengthBytes === PAGE)).toBe(true);
  const absent = [...scanPages(mapping, { not: ['present'], offset: 4 * PAGE, lengthBytes: 4 * PAGE })];
  expect(absent.map((run) => run.offset / PAGE)).toEqual([5, 7]);
  expect([...scanPages(mapping, { anyOf: ['swapped', 'file'] })]).toEqual([]);
  expect(() => [...scanPages(mapping, { offset: 1 })]).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
  expect(() => [...scanPages(mapping, { allOf: ['wet' as 'present'] })]).toThrow(/unknown page category wet/);
});

test('file: pages of a memfd, not those of private memory', async (context) => {
  const memory = [mappingOf(memfdOf(1)), anonymousMapping(1)];
  for (const mapping of memory) await mapping.write(0, filled(1));
  const entries = memory.map((mapping) => pageEntries(mapping)[0]!);
  expect(entries.map(({ file, exclusive, swapped }) => [file, exclusive, swapped])).toEqual([
    [true, true, false],
    [false, true, false],
  ]);
  requires(context, 'pagemap-scan');
  expect(memory.map((mapping) => [...scanPages(mapping, { allOf: ['file'] })].length)).toEqual([1, 0]);
});

test('soft-dirty: the pages written since it was cleared, for the whole process', async (context) => {
  requires(context, 'soft-dirty');
  const mapping = anonymousMapping(3);
  await mapping.write(0, filled(1, 3 * PAGE));
  const dirty = () => pageEntries(mapping).map((entry) => entry.softDirty);
  expect(dirty()).toEqual([true, true, true]);
  clearSoftDirty();
  expect(dirty()).toEqual([false, false, false]);
  await mapping.write(PAGE, filled(2, 1));
  expect(dirty()).toEqual([false, true, false]);
});

test('guard pages: SIGSEGV and no message, and a category of their own', async (context) => {
  requires(context, 'guard-anon', 'pagemap-guard');
  const mapping = anonymousMapping(3);
  const uffd = userfaultfd();
  uffd.register(mapping, ['missing']);
  mapping.advise('guardInstall', PAGE, PAGE);
  await expect(mapping.read(PAGE, 1, { signal: deadline() })).rejects.toMatchObject({ signal: 'SIGSEGV', page: 1 });
  expect(uffd.queue).toEqual({ pending: 0, total: 0 });
  expect([...scanPages(mapping, { allOf: ['guard'] })].map((run) => run.offset)).toEqual([PAGE]);
  expect(pageEntries(mapping).map((entry) => entry.guard)).toEqual([false, true, false]);
});

test('a batch: every answer with an outcome of its own, in order', async () => {
  const mapping = Mapping.map(memfdOf(6));
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['missing', 'minor']);
  const bytes = filled(3);
  const outcomes = uffd.answer([
    { answer: 'copy', at: { region, page: 0 }, bytes },
    { answer: 'copy', at: { region, page: 0 }, bytes },
    { answer: 'continue', at: { region, page: 1 } },
    { answer: 'zeropage', at: { region, page: 2, pages: 2 } },
    { answer: 'zeropage', at: { region, page: 1, pages: 3 } },
    { answer: 'writeprotect', at: { region, page: 4 } },
    { answer: 'wake', at: { region, page: 0, pages: 6 } },
  ]);
  const [present, partial] = [
    { kind: 'already', bytes: 0 },
    { kind: 'partial', bytes: PAGE },
  ];
  expect(outcomes).toEqual([
    { kind: 'installed', bytes: PAGE },
    present,
    { kind: 'absent', bytes: 0 },
    { kind: 'installed', bytes: 2 * PAGE },
    partial,
    { kind: 'absent', bytes: 0 },
    { kind: 'installed', bytes: 6 * PAGE },
  ]);
  expect((await mapping.read(0, PAGE, { signal: deadline() })).equals(bytes)).toBe(true);
});

test('rwp and setMode: done, or refused with the version they need', (context) => {
  requires(context, 'uffd');
  const uffd = userfaultfd();
  if (uffd.availableFeatures.has('rwp')) return;
  const mapping = anonymousMapping(1);
  expect(() => uffd.register(mapping, ['rwp'])).toThrow(
    expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('7.3') as string }),
  );
  expect(() => {
    uffd.setMode({ enable: ['rwpAsync'] });
  }).toThrow(
    expect.objectContaining({ syscall: 'UFFDIO_SET_MODE', message: expect.stringContaining('7.3') as string }),
  );
});
