import { beforeEach, expect, test } from 'vitest';
import { Mapping, Memfd } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { HUGE, poolSize, reserveHugePages } from '../support/huge-pages.js';
import { PAGE, filled, nextFault, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';

const missing = reserveHugePages(4);

beforeEach((context) => {
  requires(context, 'root', 'hugetlb-2M', 'uffd-minor');
  const why = missing();
  if (why !== undefined) context.skip(`hugetlb-2M: ${why}`);
});

test('size and page size are huge', () => {
  using memfd = Memfd.create({ sizeBytes: 1, hugetlb: '2M' });
  expect(memfd.sizeBytes).toBe(HUGE);
  expect(memfd.pageSize).toBe(HUGE);
  using mapping = Mapping.map(memfd);
  expect(mapping.pageSize).toBe(HUGE);
  expect(mapping.lengthBytes).toBe(HUGE);
});

test('punchHole and allocatedBytes count huge pages', async () => {
  using memfd = Memfd.create({ sizeBytes: 2 * HUGE, hugetlb: '2M' });
  using mapping = Mapping.map(memfd);
  await mapping.touch(0, 2 * HUGE, { write: true });
  expect(memfd.allocatedBytes).toBe(2 * HUGE);
  memfd.punchHole(0, HUGE);
  expect(memfd.allocatedBytes).toBe(HUGE);
});

test('a size this machine does not have is ENODEV', () => {
  expect(() => Memfd.create({ sizeBytes: 1, hugetlb: '16G' })).toThrow(
    expect.objectContaining({
      code: 'ENODEV',
      errno: -19,
      syscall: 'memfd_create',
      message: expect.stringContaining('16G') as string,
    }),
  );
  expect(() => Memfd.create({ sizeBytes: 1, hugetlb: '3M' as '2M' })).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }),
  );
});

test('answers and pages are huge: missing by copy, minor by continue', async () => {
  using memfd = Memfd.create({ sizeBytes: 2 * HUGE, hugetlb: '2M' });
  using mapping = Mapping.map(memfd);
  const uffd = userfaultfd(['minorHugetlbfs']);
  const region = uffd.register(mapping, ['missing', 'minor']);
  expect([...region.answers].filter((name) => name !== 'poison').join(' ')).toBe('wake copy continue');
  expect(region).toMatchObject({ pages: 2, pageSize: HUGE });

  const reading = mapping.read(HUGE + 5 * PAGE, 1, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault).toMatchObject({ reason: 'missing', page: 1, address: mapping.address + BigInt(HUGE) });
  expect(uffd.copy(fault, filled('h', HUGE))).toEqual({ kind: 'installed', bytes: HUGE });
  expect((await reading).toString()).toBe('h');

  using other = Mapping.map(memfd);
  await other.write(100, filled('o', 1));
  const minor = mapping.read(100, 1, { signal: deadline() });
  const second = await nextFault(uffd);
  expect(second).toMatchObject({ reason: 'minor', page: 0 });
  expect(uffd.continue(second)).toEqual({ kind: 'installed', bytes: HUGE });
  expect((await minor).toString()).toBe('o');
  uffd.close();
});

test('no zeropage, on any kernel; a base page is out of range', () => {
  using memfd = Memfd.create({ sizeBytes: HUGE, hugetlb: '2M' });
  using mapping = Mapping.map(memfd);
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['missing']);
  expect(() => uffd.zeropage({ region, page: 0 })).toThrow(
    expect.objectContaining({ code: 'ERR_NOT_FOR_MEMORY', message: expect.stringContaining('copy zeroes') as string }),
  );
  expect(() => uffd.copy({ region, page: 0 }, filled(1))).toThrow(
    expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
  );
  uffd.close();
});

test('a mapping larger than the pool is ENOMEM', () => {
  using memfd = Memfd.create({ sizeBytes: (poolSize() + 1) * HUGE, hugetlb: '2M' });
  expect(() => Mapping.map(memfd)).toThrow(expect.objectContaining({ code: 'ENOMEM', syscall: 'mmap' }));
});
