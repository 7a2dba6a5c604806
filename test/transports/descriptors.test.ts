// What the second descriptor of a handshake is taken for.
import { openSync, closeSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { Kvm } from '../../dist/index.js';
import { checkMemory } from '../../dist/transports/descriptors.js';
import { PAGE, memfdOf } from '../support/memory.js';
import { requires } from '../support/requires.js';

test('a memfd: written to only when it cannot shrink', () => {
  const memfd = memfdOf(3);
  const checked = { file: 'memfd', sizeBytes: 3 * PAGE, pageSize: PAGE };
  expect(checkMemory(memfd.fd, true)).toEqual({ ...checked, writable: false });
  memfd.addSeals('shrink');
  expect(checkMemory(memfd.fd, true)).toEqual({ ...checked, writable: true });
});

test('a guest_memfd: always written to, it has one size', async (context) => {
  requires(context, 'kvm', 'guest-memfd');
  using kvm = Kvm.open();
  await using vm = kvm.createVm();
  using file = vm.createGuestMemfd({ sizeBytes: 2 * PAGE, flags: ['mmap', 'initShared'] });
  const expected = { file: 'guest_memfd', sizeBytes: 2 * PAGE, pageSize: PAGE, writable: true };
  expect(checkMemory(file.fd, true)).toEqual(expected);
});

test.each(['/dev/null', '/proc/self/status'])('%s: neither', (path) => {
  const fd = openSync(path, 'r');
  onTestFinished(() => {
    closeSync(fd);
  });
  expect(() => checkMemory(fd, true)).toThrow(/neither a memfd nor a guest_memfd but \//);
});
