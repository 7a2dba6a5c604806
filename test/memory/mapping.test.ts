import { expect, test } from 'vitest';
import { Mapping, memoryKinds } from '../../dist/index.js';
import { kindOf } from '../../dist/memory/kinds/kinds.js';
import { PAGE, anonymousMapping, filled, mappingOf, memfdOf } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { mappingsOf } from '../support/resources.js';
import { smapsField } from '../support/smaps.js';

test('a shared mapping shows and makes changes of the memfd', async () => {
  const memfd = memfdOf(2);
  const [one, other] = [mappingOf(memfd), mappingOf(memfd)];
  memfd.write(Buffer.from('file'), 0);
  expect((await one.read(0, 4)).toString()).toBe('file');
  await one.write(PAGE, Buffer.from('shared'));
  expect((await other.read(PAGE, 6)).toString()).toBe('shared');
});

test('a private mapping keeps its changes to itself', async () => {
  const memfd = memfdOf(1);
  const [own, shared] = [mappingOf(memfd, { shared: false }), mappingOf(memfd)];
  await own.write(0, Buffer.from('mine'));
  expect(await shared.read(0, 4)).toEqual(filled(0, 4));
  expect((await own.read(0, 4)).toString()).toBe('mine');
});

test('a window of the memfd', async () => {
  const memfd = memfdOf(4);
  memfd.write(filled('w'), 2 * PAGE);
  const window = mappingOf(memfd, { offset: 2 * PAGE });
  expect(window.lengthBytes).toBe(2 * PAGE);
  expect((await window.read(PAGE - 1, 2)).toString()).toBe('w\0');
  expect(mappingOf(memfd, { offset: PAGE, lengthBytes: 1 }).lengthBytes).toBe(PAGE);
});

test('anonymous memory is private or shared, and zero', async () => {
  for (const shared of [false, true]) {
    const mapping = anonymousMapping(2, { shared });
    expect(await mapping.read(PAGE - 2, 4)).toEqual(filled(0, 4));
  }
});

test('populate: at once when mapping, later by call', () => {
  const memfd = memfdOf(4);
  const later = mappingOf(memfd);
  expect(later.mincore()).toEqual([false, false, false, false]);
  later.populate('write', PAGE, PAGE);
  expect(memfd.allocatedBytes).toBe(PAGE);
  later.populate('read', 2 * PAGE, PAGE);
  expect(later.mincore()).toEqual([false, true, true, false]);
  mappingOf(memfd, { populate: true });
  expect(later.mincore()).toEqual([true, true, true, true]);
});

test('advise: dontNeed drops anonymous pages, remove punches the memfd', async () => {
  const anonymous = anonymousMapping(1);
  await anonymous.write(0, Buffer.from('gone'));
  anonymous.advise('dontNeed');
  expect(await anonymous.read(0, 4)).toEqual(filled(0, 4));
  const memfd = memfdOf(2);
  memfd.write(filled('x', 2 * PAGE), 0);
  mappingOf(memfd).advise('remove', PAGE);
  expect(memfd.allocatedBytes).toBe(PAGE);
});

test('advise: what smaps says of it', async (context) => {
  const mapping = anonymousMapping(4);
  await mapping.write(0, filled(1, 4 * PAGE));
  const flags = () => smapsField(mapping, 'VmFlags').split(' ');
  for (const [advice, flag] of [
    ['random', 'rr'],
    ['sequential', 'sr'],
  ] as const) {
    mapping.advise(advice);
    expect(flags()).toContain(flag);
  }
  mapping.advise('normal');
  expect(flags()).not.toContain('sr');
  requires(context, 'thp');
  mapping.advise('hugePage');
  expect(flags()).toContain('hg');
  mapping.advise('noHugePage');
  expect(flags()).toContain('nh');
});

test('advise: an errno has the advice in its message', () => {
  const mapping = anonymousMapping(1);
  expect(() => {
    mapping.advise('remove');
  }).toThrow(
    expect.objectContaining({
      code: 'EINVAL',
      syscall: 'madvise',
      message: expect.stringContaining('remove') as string,
    }),
  );
});

test('touch reaches every page of a range that is not aligned', async () => {
  const memfd = memfdOf(4);
  const mapping = mappingOf(memfd);
  await mapping.touch(PAGE - 1, 2, { write: true });
  expect(mapping.mincore()).toEqual([true, true, false, false]);
  await mapping.touch(PAGE + 100, PAGE, { write: true });
  expect(mapping.mincore()).toEqual([true, true, true, false]);
  await mapping.touch(3 * PAGE, 0, { write: true });
  expect(memfd.allocatedBytes).toBe(3 * PAGE);
});

test('touch changes nothing', async () => {
  const memfd = memfdOf(2);
  memfd.write(filled('t', 2 * PAGE), 0);
  const mapping = mappingOf(memfd);
  await mapping.touch();
  await mapping.touch(0, 2 * PAGE, { write: true });
  expect(await mapping.read(0, 2 * PAGE)).toEqual(filled('t', 2 * PAGE));
});

test.each([
  [-1, 1],
  [0, -1],
  [0, 2 * PAGE + 1],
  [2 * PAGE, 1],
  [0.5, 1],
  [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  [0, Number.NaN],
])('%d, %d is out of range for every method', async (offset, length) => {
  const mapping = mappingOf(memfdOf(2));
  const outOfRange = expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }) as Error;
  await expect(mapping.read(offset, length)).rejects.toThrow(outOfRange);
  await expect(mapping.touch(offset, length)).rejects.toThrow(outOfRange);
  expect(() => mapping.mincore(offset, length)).toThrow(outOfRange);
  expect(() => mapping.view(offset, length)).toThrow(outOfRange);
  expect(() => {
    mapping.protect('none', offset, length);
  }).toThrow(outOfRange);
  expect(() => {
    mapping.advise('dontNeed', offset, length);
  }).toThrow(outOfRange);
});

test('write past the end is out of range, and nothing is written', async () => {
  const mapping = mappingOf(memfdOf(1));
  await expect(mapping.write(PAGE - 1, filled(7, 2))).rejects.toThrow(
    expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
  );
  expect(await mapping.read(PAGE - 1, 1)).toEqual(filled(0, 1));
});

test('a read no Buffer can hold is an error, not a crash', async () => {
  const mapping = Mapping.anonymous(2 ** 44);
  await expect(mapping.read(0, 2 ** 44)).rejects.toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
  mapping.unmap();
});

test('reads and writes of no bytes', async () => {
  const mapping = mappingOf(memfdOf(1));
  expect(await mapping.read(PAGE, 0)).toEqual(Buffer.alloc(0));
  await mapping.write(0, Buffer.alloc(0));
});

test('the bytes to write are taken when write is called', async () => {
  const mapping = mappingOf(memfdOf(1));
  const bytes = filled('1', 8);
  const writing = mapping.write(0, bytes);
  bytes.fill('2');
  await writing;
  expect((await mapping.read(0, 8)).toString()).toBe('11111111');
});

test('what mmap refuses is an errno', () => {
  const memfd = memfdOf(1);
  expect(() => mappingOf(memfd, { offset: 1, lengthBytes: PAGE })).toThrow(
    expect.objectContaining({ code: 'EINVAL', syscall: 'mmap' }),
  );
  expect(() => mappingOf(memfd, { lengthBytes: 0 })).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
});

test('unmapped: every use is ERR_CLOSED, unmapping again is harmless', async () => {
  const memfd = memfdOf(1, 'unmapped-test');
  const mapping = Mapping.map(memfd);
  expect(mappingsOf('unmapped-test')).toBe(1);
  mapping.unmap();
  mapping.unmap();
  expect(mappingsOf('unmapped-test')).toBe(0);
  expect(mapping.unmapped).toBe(true);
  await expect(mapping.read(0, 1)).rejects.toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
  expect(() => mapping.view()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
  expect(() => mapping.mincore()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
});

test('kinds: huge pages by page size, shmem by its descriptor', () => {
  expect(kindOf('memfd', 2 ** 21, PAGE)).toBe(memoryKinds.hugetlb);
  expect(kindOf('memfd', PAGE, PAGE)).toBe(memoryKinds.shmem);
  expect(kindOf(undefined, PAGE, PAGE)).toBe(memoryKinds.anonymous);
  expect(kindOf('guest_memfd', PAGE, PAGE)).toBe(memoryKinds.guest_memfd);
});
