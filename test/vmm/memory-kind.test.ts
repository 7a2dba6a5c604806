// A guest's memory that cannot be mapped leaves nothing open.
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { KernelError, type Vm } from '../../dist/index.js';
import { GuestMemory } from '../../dist/vmm/memory-kind.js';
import { requires } from '../support/requires.js';

const openFiles = () => readdirSync('/proc/self/fd').length;

test('a guest_memfd is closed', () => {
  let closed = 0;
  const file = {
    map: () => {
      throw new KernelError(-12, 'mmap');
    },
    close: () => closed++,
  };
  const vm = { createGuestMemfd: () => file } as unknown as Vm;
  expect(() => GuestMemory.create('guest_memfd', 4096, vm)).toThrow('ENOMEM');
  expect(closed).toBe(1);
});

test('so is a memfd of huge pages, and the remedy is named', (context) => {
  requires(context, 'hugetlb-2M');
  const before = openFiles();
  // More of them than any machine has.
  const create = () => GuestMemory.create('hugetlb', 2 ** 45, undefined as unknown as Vm);
  expect(create).toThrow(/^ENOMEM: .*vm\.nr_hugepages/);
  expect(openFiles()).toBe(before);
});

test('that of a memfd is closed with it', () => {
  const before = openFiles();
  const memory = GuestMemory.memfd(2 ** 21);
  expect(memory.slot()).toMatchObject({ slot: 0, address: 0, lengthBytes: 2 ** 21 });
  memory.close();
  expect(memory.file.closed).toBe(true);
  expect(openFiles()).toBe(before);
});
