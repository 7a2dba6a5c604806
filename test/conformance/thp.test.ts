// Shared memory made of transparent huge pages: faults and answers are of base pages all the same.
import { expect, test } from 'vitest';
import { deadline } from '../support/deadline.js';
import { HUGE, allowFolios } from '../support/huge-pages.js';
import { PAGE, nextFault, userfaultfd } from '../support/memory.js';
import { lacks, requires } from '../support/requires.js';
import { alignedForThp, hugeBytes, memfdForThp } from '../support/thp.js';

test('minor faults of a huge page in the page cache: a base page each, or all of them by one answer', async (context) => {
  requires(context, 'uffd-minor', 'root', 'thp', 'pagemap-scan');
  allowFolios(HUGE);
  const { memfd } = memfdForThp();
  const other = alignedForThp(memfd);
  other.mapping.advise('hugePage', other.at, HUGE);
  await other.mapping.write(other.at, Buffer.alloc(HUGE, 5));
  if (hugeBytes(other.mapping) !== HUGE) return context.skip('thp: no huge page of shared memory to be had');
  const { mapping, at } = alignedForThp(memfd);

  const uffd = userfaultfd();
  const modes = lacks('uffd-wp-shmem') ? (['missing', 'minor'] as const) : (['missing', 'minor', 'wp'] as const);
  const region = uffd.register(mapping, modes);
  const first = at / PAGE;
  const reading = mapping.read(at + 3 * PAGE, 1, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault).toMatchObject({ reason: 'minor', page: first + 3 });
  expect(uffd.continue(fault)).toEqual({ kind: 'installed', bytes: PAGE });
  expect((await reading)[0]).toBe(5);
  // A copy finds the page there.
  expect(uffd.copy({ region, page: first }, Buffer.alloc(PAGE, 6)).kind).toBe('already');
  expect(uffd.continue({ region, page: first, pages: 8 })).toEqual({ kind: 'partial', bytes: 3 * PAGE });
  const rest = HUGE / PAGE - 4;
  expect(uffd.continue({ region, page: first + 4, pages: rest })).toEqual({ kind: 'installed', bytes: rest * PAGE });
  expect(hugeBytes(mapping)).toBe(0);
  expect((await mapping.read(at, HUGE, { signal: deadline() })).equals(Buffer.alloc(HUGE, 5))).toBe(true);

  if (!modes.some((mode) => mode === 'wp')) return;
  uffd.writeProtect({ region, page: first + 9 });
  const writing = mapping.write(at + 9 * PAGE, Buffer.of(7), { signal: deadline() });
  const second = await nextFault(uffd);
  expect(second).toMatchObject({ reason: 'wp', page: first + 9 });
  uffd.writeProtect(second, { protect: false });
  await writing;
  expect((await other.mapping.read(other.at + 9 * PAGE, 1))[0]).toBe(7);
  expect(uffd.queue.total).toBe(0);
});
