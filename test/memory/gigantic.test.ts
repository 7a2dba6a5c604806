// A huge page of 1 GiB: one page, one message, one answer.
import { beforeEach, expect, test } from 'vitest';
import { Mapping, Memfd, memoryKinds } from '../../dist/index.js';
import { deadline, milliseconds } from '../support/deadline.js';
import { reserveHugePages } from '../support/huge-pages.js';
import { nextFault, userfaultfd } from '../support/memory.js';
import { lacks, requires } from '../support/requires.js';

const GIGANTIC = 2 ** 30;
const noPage = reserveHugePages(1, '1G');
const signal = () => deadline(30_000);

beforeEach((context) => {
  requires(context, 'uffd-minor', 'root', 'hugetlb-1G');
  const why = noPage();
  if (why !== undefined) context.skip(`hugetlb-1G: ${why}`);
});

test('missing, minor, poison, and no page left', { timeout: milliseconds(60_000) }, async (context) => {
  using memfd = Memfd.create({ sizeBytes: 2 * GIGANTIC, hugetlb: '1G' });
  using mapping = Mapping.map(memfd, { noReserve: true });
  expect([memfd.pageSize, mapping.pageSize, mapping.kind]).toEqual([GIGANTIC, GIGANTIC, memoryKinds.hugetlb]);
  using uffd = userfaultfd(['minorHugetlbfs']);
  const region = uffd.register(mapping, ['missing', 'minor']);
  expect(region.pages).toBe(2);

  // Read as the huge page of zeroes, which takes no time; the last byte tells that all of it was copied.
  using source = Mapping.anonymous(GIGANTIC);
  if (!lacks('thp')) source.advise('hugePage');
  // Copied from pages that are not there, the kernel would take a second huge page for the time of the copy.
  await source.touch();
  const bytes = new Uint8Array(source.view());
  bytes[GIGANTIC - 1] = 7;
  const reading = mapping.read(GIGANTIC - 1, 1, { signal: signal() });
  const fault = await nextFault(uffd, signal());
  expect(fault).toMatchObject({ reason: 'missing', page: 0, address: mapping.address });
  expect(uffd.copy(fault, bytes)).toEqual({ kind: 'installed', bytes: GIGANTIC });
  expect((await reading)[0]).toBe(7);
  expect(uffd.copy(fault, bytes).kind).toBe('already');
  expect(uffd.copy({ region, page: 1 }, bytes).kind).toBe('exhausted');

  // The page goes back to the pool, and comes again through another mapping.
  memfd.punchHole(0, GIGANTIC);
  using alias = Mapping.map(memfd, { noReserve: true });
  await alias.write(5, Buffer.of(9), { signal: signal() });
  const minor = mapping.read(5, 1, { signal: signal() });
  const second = await nextFault(uffd, signal());
  expect(second).toMatchObject({ reason: 'minor', page: 0 });
  expect(uffd.continue(second)).toEqual({ kind: 'installed', bytes: GIGANTIC });
  expect((await minor)[0]).toBe(9);

  requires(context, 'uffd-poison');
  expect(uffd.poison({ region, page: 1 }).kind).toBe('installed');
  await expect(mapping.read(GIGANTIC + 3, 1, { signal: signal() })).rejects.toMatchObject({
    signal: 'SIGBUS',
    page: 1,
  });
});
