// Write protection on every memory kind: of pages that are there, of holes, through fork and mremap, and of what COPY and
// CONTINUE bring.
import { beforeEach, describe, expect, test } from 'vitest';
import { pageEntries, scanPages } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { reserveHugePages } from '../support/huge-pages.js';
import { PAGE, anonymousMapping, nextFault, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { memories, prepare } from './memories.js';
import { Puppet } from './puppet.js';

const noHugePages = reserveHugePages(16);
const pageOf = (value: number, bytes: number) => Buffer.alloc(bytes, value);

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize, minor, huge, needs } = memory;
  const signal = () => deadline(8000);

  beforeEach((context) => {
    requires(context, ...needs);
    if (name !== 'anon') requires(context, 'uffd-wp-shmem');
    const why = noHugePages();
    if (huge && why !== undefined) context.skip(`hugetlb-2M: ${why}`);
  });

  test('a write to a protected page is a wp fault; a read is none', async () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['wp']);
    await mapping.write(0, pageOf(1, 2 * pageSize), { signal: signal() });
    expect(uffd.writeProtect({ region, page: 0, pages: 2 }).kind).toBe('installed');
    expect((await mapping.read(pageSize, 1, { signal: signal() }))[0]).toBe(1);
    const writing = mapping.write(pageSize, pageOf(2, 1), { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'wp', write: true, page: 1 });
    expect(uffd.writeProtect(fault, { protect: false }).kind).toBe('installed');
    await writing;
    expect((await mapping.read(pageSize, 1, { signal: signal() }))[0]).toBe(2);
  });

  test('copy, and continue, that protect what they bring', async () => {
    const { uffd, mapping, region, cache } = prepare(memory, 2, minor ? ['missing', 'wp', 'minor'] : ['missing', 'wp']);
    expect(uffd.copy({ region, page: 0 }, pageOf(1, pageSize), { writeProtect: true }).kind).toBe('installed');
    if (minor) {
      await cache(1, 4);
      expect(uffd.continue({ region, page: 1 }, { writeProtect: true }).kind).toBe('installed');
    }
    for (const page of minor ? [0, 1] : [0]) {
      const writing = mapping.write(page * pageSize, pageOf(9, 1), { signal: signal() });
      const fault = await nextFault(uffd, signal());
      expect(fault).toMatchObject({ reason: 'wp', page });
      uffd.writeProtect(fault, { protect: false });
      await writing;
    }
  });

  test('holes: protected without being there, where the kind has markers', async () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['wp'], name === 'anon' ? ['wpUnpopulated'] : []);
    expect(uffd.writeProtect({ region, page: 0, pages: 2 }).kind).toBe('installed');
    const writing = mapping.write(0, pageOf(5, 1), { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'wp', page: 0 });
    uffd.writeProtect(fault, { protect: false });
    await writing;
    expect((await mapping.read(0, 1, { signal: signal() }))[0]).toBe(5);
  });

  test.each([false, true])(
    'fork, with the event: %s: the child is protected only where it is followed',
    async (event) => {
      const puppet = new Puppet();
      const uffd = await puppet.registered(
        name,
        2,
        ['wp'],
        event ? ['eventFork', 'pagefaultFlagWp'] : ['pagefaultFlagWp'],
      );
      const region = uffd.regions[0]!;
      expect(await puppet.tell('write 0 1')).toBe('ok');
      uffd.writeProtect({ region, page: 0 });
      expect(await puppet.tell('wp 0')).toBe('1');
      const told = puppet.tell('fork-wp 0');
      if (event) {
        for await (const one of uffd.events({ signal: signal() })) {
          expect(one.type).toBe('fork');
          if (one.type === 'fork') one.userfaultfd.close();
          break;
        }
      }
      // Closing the child's userfaultfd takes protection away; the race with its look at the bit is the child's.
      if (event) expect(['0', '1']).toContain(await told);
      else expect(await told).toBe('0');
      expect(await puppet.tell('wp 0')).toBe('1');
    },
  );

  test('mremap without eventRemap: the registration is gone, and protection with it', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 2, ['wp']);
    const region = uffd.regions[0]!;
    expect(await puppet.tell('write 0 1')).toBe('ok');
    expect(await puppet.tell('write 1 1')).toBe('ok');
    uffd.writeProtect({ region, page: 0, pages: 2 });
    expect(await puppet.tell('wp 1')).toBe('1');
    await puppet.tell('move');
    expect([await puppet.tell('wp 0'), await puppet.tell('wp 1')]).toEqual(['0', '0']);
    expect(await puppet.tell('write 1 3')).toBe('ok');
  });

  test('mremap with eventRemap: both go with the memory', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 2, ['wp'], ['eventRemap']);
    const [before] = uffd.regions;
    expect(await puppet.tell('write 1 1')).toBe('ok');
    uffd.writeProtect({ region: before!, page: 1 });
    const moved = puppet.tell('move');
    for await (const event of uffd.events({ signal: signal() })) {
      expect(event).toMatchObject({ type: 'remap', from: before!.start, lengthBytes: BigInt(2 * pageSize) });
      break;
    }
    const address = BigInt(await moved);
    expect(uffd.regions).toMatchObject([{ start: address, firstPage: 0 }]);
    expect(await puppet.tell('wp 1')).toBe('1');
    const writing = puppet.tell('write 1 2');
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'wp', page: 1 });
    uffd.writeProtect(fault, { protect: false });
    expect(await writing).toBe('ok');
  });

  test('wpAsync: the pages written since, taken and protected again in one step', async (context) => {
    requires(context, 'uffd-wp-async');
    const { uffd, mapping, region } = prepare(memory, 4, ['wp'], ['wpAsync']);
    await mapping.write(0, pageOf(1, 4 * pageSize), { signal: signal() });
    uffd.writeProtect({ region, page: 0, pages: 4 });
    const take = () =>
      [...scanPages(mapping, { allOf: ['written'], writeProtect: true })].map((run) => run.offset / pageSize);
    expect(take()).toEqual([]);
    await mapping.write(2 * pageSize, pageOf(2, 1), { signal: signal() });
    expect(take()).toEqual([2]);
    expect(take()).toEqual([]);
    expect(uffd.queue.total).toBe(0);
  });
});

test('wpUnpopulated on anon: markers survive a read, not MADV_DONTNEED', async (context) => {
  requires(context, 'uffd', 'uffd-wp-unpopulated');
  const mapping = anonymousMapping(2);
  const uffd = userfaultfd(['wpUnpopulated']);
  const region = uffd.register(mapping, ['wp']);
  uffd.writeProtect({ region, page: 0, pages: 2 });
  const bits = () => pageEntries(mapping).map((entry) => entry.writeProtected);
  expect(bits()).toEqual([true, true]);
  await mapping.touch(0, PAGE, { signal: deadline() });
  expect(bits()).toEqual([true, true]);
  mapping.advise('dontNeed');
  expect(bits()).toEqual([false, false]);
  uffd.writeProtect({ region, page: 1 });
  expect(bits()).toEqual([false, true]);
});
