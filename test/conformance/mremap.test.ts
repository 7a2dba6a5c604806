// mremap(2) of write-protected memory without eventRemap: the registration is gone, and no page keeps its bit, whatever
// it is made of; what the kernel's uffd-wp-mremap asks, folio by folio.
import { describe, expect, test } from 'vitest';
import { HUGE, allowFolios, reserveHugePages } from '../support/huge-pages.js';
import { PAGE, nextEvent, nextFault } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { mremapCases } from './kernel-cases.mjs';
import { memories, needsOf } from './memories.js';
import { Puppet } from './puppet.js';

const PROTECTED = 57;

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize } = memory;
  needsOf(memory, 'cc');
  const noGigantic = name.startsWith('hugetlb') ? reserveHugePages(1, '1G') : () => undefined;

  for (const one of mremapCases.filter(({ on }) => on === name)) {
    test(`${one.name}: no bit is left`, async (context) => {
      requires(context, 'root', 'wp-mremap');
      if (name !== 'anon') requires(context, 'uffd-wp-shmem');
      const why = one.size > HUGE ? noGigantic() : undefined;
      if (why !== undefined) context.skip(`hugetlb-1G: ${why}`);
      if (!memory.huge && one.size > PAGE && !allowFolios(one.size)) {
        context.skip(`thp: this kernel has no folios of ${one.size / 1024}K`);
      }
      const puppet = new Puppet();
      if (!(await puppet.folio(one.memory, one.size))) context.skip(`thp: no folio of ${one.size / 1024}K to be had`);
      const uffd = await puppet.open(['wp']);
      const pages = one.size / PAGE;
      const [region] = uffd.regions;
      expect(uffd.writeProtect({ region: region!, page: 0, pages: region!.pages }).kind).toBe('installed');
      expect(await puppet.tell(`bits ${PROTECTED}`)).toBe(String(pages));
      if (one.swapout && (await puppet.tell('pageout')) !== String(pages)) {
        context.skip('swap: not all pages were swapped out');
      }
      await puppet.tell('move');
      expect(await puppet.tell(`bits ${PROTECTED}`)).toBe('0');
      expect(await puppet.tell('write 0 3')).toBe('ok');
      expect(await puppet.tell('read 0')).toBe('3');
      expect(uffd.queue.total).toBe(0);
    });
  }

  test('with eventRemap registration and protection go with the memory', async (context) => {
    if (name !== 'anon') requires(context, 'uffd-wp-shmem');
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 2, ['wp'], ['eventRemap']);
    const [before] = uffd.regions;
    expect(await puppet.tell('write 1 1')).toBe('ok');
    uffd.writeProtect({ region: before!, page: 1 });
    const moved = puppet.tell('move');
    expect(await nextEvent(uffd)).toMatchObject({
      type: 'remap',
      from: before!.start,
      lengthBytes: BigInt(2 * pageSize),
    });
    const address = BigInt(await moved);
    expect(uffd.regions).toMatchObject([{ start: address, firstPage: 0 }]);
    // While its huge page is being migrated the pagemap has nothing to say of it.
    await expect.poll(() => puppet.tell('wp 1')).toBe('1');
    const writing = puppet.tell('write 1 2');
    const fault = await nextFault(uffd);
    expect(fault).toMatchObject({ reason: 'wp', page: 1 });
    uffd.writeProtect(fault, { protect: false });
    expect(await writing).toBe('ok');
  });
});
