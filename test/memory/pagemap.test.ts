// The entries of pagemap, and the categories of PAGEMAP_SCAN, that say where a page is and whose it is.
import { expect, test } from 'vitest';
import { Mapping, pageEntries, scanPages } from '../../dist/index.js';
import { PAGE, anonymousMapping, filled, mappingOf, memfdOf, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';

test('exclusive: a page that one mapping has, until a second one has it too', async () => {
  const own = anonymousMapping(1);
  await own.write(0, filled(1));
  expect(pageEntries(own)[0]).toMatchObject({ present: true, file: false, exclusive: true });
  const memfd = memfdOf(2);
  const one = mappingOf(memfd);
  await one.write(0, filled(1, 2 * PAGE));
  const exclusive = (mapping: Mapping) => pageEntries(mapping).map((entry) => entry.exclusive);
  expect(exclusive(one)).toEqual([true, true]);
  const other = Mapping.map(memfd);
  await other.touch(0, PAGE, { write: true });
  expect(exclusive(one)).toEqual([false, true]);
  expect(pageEntries(one)[0]).toMatchObject({ present: true, file: true, swapped: false });
  other.unmap();
  expect(exclusive(one)).toEqual([true, true]);
});

// A marker is an entry of the kind that swapped pages have: what the two share needs no swap to be seen.
test('swapped: neither what is there nor what is not, but a page of poison', (context) => {
  requires(context, 'uffd', 'uffd-poison', 'pagemap-scan');
  const mapping = anonymousMapping(4);
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['missing']);
  expect(uffd.copy({ region, page: 0 }, filled(1)).kind).toBe('installed');
  expect(uffd.zeropage({ region, page: 1 }).kind).toBe('installed');
  expect(uffd.poison({ region, page: 3 }).kind).toBe('installed');
  const entries = pageEntries(mapping).map(({ present, swapped, exclusive }) => ({ present, swapped, exclusive }));
  expect(entries).toEqual([
    { present: true, swapped: false, exclusive: true },
    { present: true, swapped: false, exclusive: false },
    { present: false, swapped: false, exclusive: false },
    { present: false, swapped: true, exclusive: false },
  ]);
  const offsets = (options: Parameters<typeof scanPages>[1]) =>
    [...scanPages(mapping, options)].map((run) => run.offset);
  expect(offsets({ allOf: ['swapped'] })).toEqual([3 * PAGE]);
  expect(offsets({ anyOf: ['present', 'swapped'], report: ['swapped'] })).toEqual([0, 3 * PAGE]);
  expect(offsets({ not: ['present', 'swapped'] })).toEqual([2 * PAGE]);
  const [, run] = [...scanPages(mapping, { anyOf: ['present', 'swapped'] })];
  expect(run?.categories).toEqual(new Set(['swapped']));
});
