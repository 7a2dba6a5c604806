import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Memfd, type SealName } from '../../dist/index.js';
import { PAGE, filled, mappingOf, memfdOf } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

function fileOf(bytes: Uint8Array): number {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-'));
  writeFileSync(join(folder, 'file'), bytes);
  const fd = openSync(join(folder, 'file'), 'r');
  onTestFinished(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });
  return fd;
}

test.each([
  [0, 0],
  [1, PAGE],
  [PAGE, PAGE],
  [PAGE + 1, 2 * PAGE],
])('%i bytes become %i', (asked, size) => {
  using memfd = Memfd.create({ sizeBytes: asked });
  expect(memfd.sizeBytes).toBe(size);
  expect(memfd.pageSize).toBe(PAGE);
  expect(memfd.allocatedBytes).toBe(0);
});

test.each([-1, 1.5, Number.NaN, 2 ** 60])('a size of %d is refused', (sizeBytes) => {
  expect(() => Memfd.create({ sizeBytes })).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
});

test('the name is what /proc shows, of 249 bytes at most', () => {
  const name = 'n'.repeat(249);
  mappingOf(memfdOf(1, name));
  expect(readFileSync('/proc/self/maps', 'utf8')).toContain(`/memfd:${name}`);
  expect(() => Memfd.create({ sizeBytes: PAGE, name: `${name}n` })).toThrow(
    expect.objectContaining({ code: 'EINVAL', errno: -22, syscall: 'memfd_create' }),
  );
});

test('seals: each can be added, all are listed, and afterwards they hold', () => {
  const memfd = memfdOf(2);
  memfd.write(filled('a', 2 * PAGE), 0);
  const seals: SealName[] = ['shrink', 'grow', 'write', 'seal'];
  for (const seal of seals) memfd.addSeals(seal);
  expect(memfd.seals()).toEqual(new Set(seals));
  const refused = [
    () => {
      memfd.resize(PAGE);
    },
    () => {
      memfd.resize(3 * PAGE);
    },
    () => memfd.write(filled('b'), 0),
    () => {
      memfd.punchHole(0, PAGE);
    },
    () => {
      memfd.addSeals('futureWrite');
    },
  ];
  for (const call of refused) expect(call).toThrow(expect.objectContaining({ code: 'EPERM', errno: -1 }));
});

test('futureWrite refuses pwrite but not the mapping that exists', async () => {
  const memfd = memfdOf(1);
  const mapping = mappingOf(memfd);
  memfd.addSeals('futureWrite');
  expect(() => memfd.write(filled('a'), 0)).toThrow(expect.objectContaining({ code: 'EPERM' }));
  await mapping.write(0, Buffer.from('through'));
  expect((await mapping.read(0, 7)).toString()).toBe('through');
});

test('the write seal is EBUSY while a writable shared mapping exists', () => {
  const memfd = memfdOf(1);
  const mapping = mappingOf(memfd);
  expect(() => {
    memfd.addSeals('write');
  }).toThrow(expect.objectContaining({ code: 'EBUSY', syscall: 'F_ADD_SEALS' }));
  mapping.unmap();
  memfd.addSeals('write');
  expect(memfd.seals()).toContain('write');
});

test('a memfd that is not sealable is sealed against seals', () => {
  using memfd = Memfd.create({ sizeBytes: PAGE, sealable: false });
  expect(memfd.seals()).toEqual(new Set(['seal']));
});

test('noexec memory is sealed to stay so', (context) => {
  requires(context, 'memfd-noexec');
  using memfd = Memfd.create({ sizeBytes: PAGE, noexec: true });
  expect(memfd.seals()).toContain('exec');
  using other = Memfd.create({ sizeBytes: PAGE });
  expect(other.seals()).not.toContain('exec');
});

test('allocate gives memory to a range, punchHole takes it away', async () => {
  const memfd = memfdOf(8);
  const mapping = mappingOf(memfd);
  memfd.allocate(PAGE, 3 * PAGE);
  expect(memfd.allocatedBytes).toBe(3 * PAGE);
  expect(await mapping.read(PAGE, 3 * PAGE)).toEqual(filled(0, 3 * PAGE));
  memfd.write(filled('x', 8 * PAGE), 0);
  memfd.punchHole(2 * PAGE, PAGE);
  expect(memfd.allocatedBytes).toBe(7 * PAGE);
  expect(await mapping.read(2 * PAGE - 1, 2)).toEqual(Buffer.from('x\0'));
  expect(memfd.sizeBytes).toBe(8 * PAGE);
});

test('write puts bytes anywhere, and past the end it grows the file', async () => {
  const memfd = memfdOf(2);
  expect(memfd.write(Buffer.from('across'), PAGE - 3)).toBe(6);
  expect((await mappingOf(memfd).read(PAGE - 3, 6)).toString()).toBe('across');
  memfd.write(Buffer.from('!'), 2 * PAGE);
  expect(memfd.sizeBytes).toBe(2 * PAGE + 1);
});

test('writeFromFile copies from the file', async () => {
  const memfd = memfdOf(2);
  const file = fileOf(Buffer.concat([filled('a'), filled('b'), filled('c')]));
  expect(memfd.writeFromFile({ fd: file, offset: PAGE }, 2 * PAGE, 0)).toBe(2 * PAGE);
  expect(await mappingOf(memfd).read(PAGE - 1, 2)).toEqual(Buffer.from('bc'));
});

test('writeFromFile says EFAULT past the end of the file, and does what comes before it', async () => {
  const memfd = memfdOf(4);
  const file = fileOf(filled('a', PAGE + 100));
  const beyond = () => memfd.writeFromFile({ fd: file, offset: 2 * PAGE }, PAGE, 0);
  expect(beyond).toThrow(expect.objectContaining({ code: 'EFAULT', errno: -14 }));
  expect(memfd.writeFromFile({ fd: file, offset: 0 }, 4 * PAGE, 0)).toBe(2 * PAGE);
  expect(await mappingOf(memfd).read(PAGE + 99, 2)).toEqual(Buffer.from('a\0'));
});

test('close-on-exec: a child that is started does not have it', (context) => {
  const O_CLOEXEC = 0o2000000;
  const flagsOf = ({ fd }: Memfd) =>
    parseInt(/^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8);
  expect(flagsOf(memfdOf(1)) & O_CLOEXEC).toBe(O_CLOEXEC);
  requires(context, 'memfd-secret');
  using secret = Memfd.createSecret({ sizeBytes: PAGE });
  expect(flagsOf(secret) & O_CLOEXEC).toBe(O_CLOEXEC);
});

test('adopt takes over a descriptor', () => {
  using first = Memfd.create({ sizeBytes: 3 * PAGE });
  const before = openDescriptors();
  const copy = Memfd.adopt(openSync(`/proc/self/fd/${first.fd}`, 'r+'));
  expect(copy.sizeBytes).toBe(3 * PAGE);
  copy.close();
  expect(openDescriptors()).toBe(before);
});

test('closed: every use is ERR_CLOSED, closing again is harmless', () => {
  const memfd = Memfd.create({ sizeBytes: PAGE });
  const before = openDescriptors();
  memfd.close();
  memfd.close();
  expect(openDescriptors()).toBe(before - 1);
  expect(memfd.closed).toBe(true);
  const uses = [
    () => memfd.fd,
    () => memfd.sizeBytes,
    () => memfd.seals(),
    () => memfd.write(filled(1), 0),
    () => {
      memfd.allocate(0, PAGE);
    },
    () => mappingOf(memfd),
  ];
  for (const use of uses) expect(use).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
});
