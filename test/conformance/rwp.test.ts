// Read and write protection (Linux 7.3), on every memory kind: each access to a protected page is a fault, or is noted by the
// kernel alone. What the kernel's unit tests call rwp-*.
import { describe, expect, test } from 'vitest';
import { pageEntries, scanPages } from '../../dist/index.js';
import type { FeatureName, Mapping } from '../../dist/index.js';
import { deadline, within } from '../support/deadline.js';
import { PAGE, nextFault, userfaultfd } from '../support/memory.js';
import { type Case, type Memory, memories, needsOf, prepare } from './memories.js';
import { Puppet } from './puppet.js';

const PAGES = 4;
const signal = () => deadline(8000);
const async: FeatureName[] = ['rwp', 'rwpAsync'];

/** Memory whose page N begins with N + 1, all of it protected. */
async function protectedMemory(memory: Memory, features: FeatureName[] = ['rwp']): Promise<Case> {
  const prepared = prepare(memory, PAGES, ['rwp'], features);
  const { uffd, mapping, region } = prepared;
  for (let page = 0; page < PAGES; page++) {
    await mapping.write(page * memory.pageSize, Buffer.of(page + 1), { signal: signal() });
  }
  const outcome = uffd.rwProtect({ region, page: 0, pages: PAGES });
  expect(outcome).toEqual({ kind: 'installed', bytes: PAGES * memory.pageSize });
  return prepared;
}

/** Pages that were used since they were protected. */
function hot(mapping: Mapping): number[] {
  return [...scanPages(mapping, { allOf: ['accessed'] })].flatMap(({ offset, lengthBytes }) =>
    Array.from({ length: lengthBytes / mapping.pageSize }, (_, page) => offset / mapping.pageSize + page),
  );
}

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize } = memory;
  needsOf(memory, 'uffd-rwp', 'cc');
  const read = async (mapping: Mapping, page: number) =>
    (await mapping.read(page * pageSize, 1, { signal: signal() }))[0];
  const write = (mapping: Mapping, page: number, value: number) =>
    mapping.write(page * pageSize, Buffer.of(value), { signal: signal() });

  test('rwp-sync: a read, and a write, of a protected page is a fault; nobody else is held up', async () => {
    const { uffd, mapping } = await protectedMemory(memory);
    const reading = read(mapping, 1);
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ type: 'pagefault', reason: 'rwp', write: false, page: 1 });
    uffd.rwProtect(fault, { protect: false });
    expect(await reading).toBe(2);
    const writing = write(mapping, 3, 9);
    const second = await nextFault(uffd, signal());
    expect(second).toMatchObject({ reason: 'rwp', write: true, page: 3 });
    // Taken away without a wake, it sleeps on.
    uffd.rwProtect(second, { protect: false, dontWake: true });
    uffd.wake(second);
    await writing;
    expect([await read(mapping, 1), await read(mapping, 3)]).toEqual([2, 9]);
    expect(uffd.queue.total).toBe(0);
  });

  test('rwp-async: the kernel notes the access, without a message: the hot and the cold pages', async () => {
    const { uffd, mapping, region } = await protectedMemory(memory, async);
    expect(hot(mapping)).toEqual([]);
    expect(await read(mapping, 0)).toBe(1);
    await write(mapping, 2, 7);
    expect(hot(mapping)).toEqual([0, 2]);
    uffd.rwProtect({ region, page: 0 });
    expect(hot(mapping)).toEqual([2]);
    expect([await read(mapping, 1), await read(mapping, 2)]).toEqual([2, 7]);
    expect(uffd.queue.total).toBe(0);
  });

  test('rwp-pagemap: the bit of the entry and the category of the scan say the same', async () => {
    const { uffd, mapping, region } = await protectedMemory(memory);
    const each = pageSize / PAGE;
    // A huge page has an entry for each of its base pages.
    const bits = () =>
      [...pageEntries(mapping).entries()].filter(([, entry]) => entry.writeProtected).map(([at]) => at);
    expect(new Set(bits().map((at) => Math.floor(at / each)))).toEqual(new Set([0, 1, 2, 3]));
    expect(bits()).toHaveLength(PAGES * each);
    uffd.rwProtect({ region, page: 2 }, { protect: false });
    expect(new Set(bits().map((at) => Math.floor(at / each)))).toEqual(new Set([0, 1, 3]));
    expect(hot(mapping)).toEqual([2]);
  });

  test('rwp-mprotect: mprotect(2) takes nothing away', async () => {
    const { uffd, mapping } = await protectedMemory(memory);
    for (const protection of ['none', 'read', 'readwrite'] as const) mapping.protect(protection);
    const reading = read(mapping, 1);
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'rwp', page: 1 });
    uffd.rwProtect(fault, { protect: false });
    expect(await reading).toBe(2);
  });

  test('rwp-gup: the kernel itself is held up too, when it copies and when it pins', async (context) => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 2, ['rwp'], ['rwp']);
    const [region] = uffd.regions;
    for (const [told, page] of [
      ['pipe 0 0', 0],
      ['pin 1', 1],
    ] as const) {
      expect(await puppet.tell(`write ${page} 5`)).toBe('ok');
      uffd.rwProtect({ region: region!, page });
      const telling = puppet.tell(told);
      const fault = await nextFault(uffd, signal());
      expect(fault).toMatchObject({ reason: 'rwp', page });
      uffd.rwProtect(fault, { protect: false });
      const said = await telling;
      if (page === 1 && said !== 'ok') context.skip(`io_uring: a page cannot be pinned: ${said}`);
      expect(said).toMatch(/^(ok|1 )/);
    }
  });

  test('rwp-async-toggle: switched to asynchronous everybody wakes, and back again faults come', async () => {
    const { uffd, mapping, region } = await protectedMemory(memory);
    const waiting = read(mapping, 0);
    expect(await nextFault(uffd, signal())).toMatchObject({ reason: 'rwp', page: 0 });
    uffd.setMode({ enable: ['rwpAsync'] });
    expect(await within(waiting, 'the reader')).toBe(1);
    expect(await read(mapping, 1)).toBe(2);
    expect(hot(mapping)).toEqual([0, 1]);
    uffd.setMode({ disable: ['rwpAsync'] });
    uffd.rwProtect({ region, page: 0, pages: PAGES });
    const reading = read(mapping, 1);
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'rwp', page: 1 });
    uffd.rwProtect(fault, { protect: false });
    expect(await reading).toBe(2);
    for (const wrong of [{ enable: async, disable: async }, { enable: ['sigbus' as const] }]) {
      expect(() => {
        uffd.setMode(wrong);
      }).toThrow(expect.objectContaining({ code: 'EINVAL', syscall: 'UFFDIO_SET_MODE' }));
    }
  });

  test.for(['close', 'unregister'] as const)(
    'rwp-close: %s gives the pages back, to those who wait too',
    async (how) => {
      const { uffd, mapping } = await protectedMemory(memory);
      const waiting = read(mapping, 1);
      await nextFault(uffd, signal());
      if (how === 'close') uffd.close();
      else uffd.unregister(mapping);
      expect(await within(waiting, 'the reader')).toBe(2);
      for (let page = 0; page < PAGES; page++) expect(await read(mapping, page)).toBe(page + 1);
      await write(mapping, 0, 8);
      expect(await read(mapping, 0)).toBe(8);
    },
  );

  test('rwp-wp-exclusive: one or the other, and neither is dropped by registering again', () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['rwp'], ['rwp']);
    const refused = (code: string) => expect.objectContaining({ code, syscall: 'UFFDIO_REGISTER' }) as Error;
    expect(() => uffd.register(mapping, ['wp', 'rwp'])).toThrow(refused('EINVAL'));
    expect(() => uffd.register(mapping, ['missing'])).toThrow(refused('EBUSY'));
    expect(() => uffd.register(mapping, ['wp'])).toThrow(refused('EBUSY'));
    expect(uffd.writeProtect({ region, page: 0 }).kind).toBe('absent');
    const other = prepare(memory, 2, ['wp'], ['rwp']);
    expect(other.uffd.rwProtect({ region: other.region, page: 0 }).kind).toBe('absent');
    expect(() => other.uffd.register(other.mapping, ['rwp'])).toThrow(refused('EBUSY'));
  });

  test('without the feature, and of memory that nobody may use, it cannot be registered', () => {
    const { mapping } = prepare(memory, 1, ['missing']);
    const refused = expect.objectContaining({ code: 'EINVAL', syscall: 'UFFDIO_REGISTER' }) as Error;
    const free = prepare(memory, 1, ['rwp'], ['rwp']);
    free.uffd.unregister(free.mapping);
    expect(() => userfaultfd().register(free.mapping, ['rwp'])).toThrow(refused);
    free.mapping.protect('none');
    expect(() => userfaultfd(['rwp']).register(free.mapping, ['rwp'])).toThrow(refused);
    mapping.protect('none');
  });

  test('holes are not protected, and what is dropped is protected no longer', async () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['rwp'], ['rwp']);
    expect(uffd.rwProtect({ region, page: 0, pages: 2 }).kind).toBe('installed');
    expect(await read(mapping, 0)).toBe(0);
    uffd.rwProtect({ region, page: 0 });
    mapping.advise('dontNeed');
    expect(await read(mapping, 0)).toBe(0);
    expect(uffd.queue.total).toBe(0);
  });
});
