// Memory slots, the dirty log, attributes, and closing in every order.
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { Kvm, Mapping, type MemorySlot } from '../../dist/index.js';
import { PAGE, anonymousMapping, memfdOf } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { mappingsOf, openDescriptors } from '../support/resources.js';
import { DATA, FOREVER, GUEST_BYTES, HLT, guestOf, load64, newVm, runTo, store64 } from './support.js';

const errorWith = (code: string) => expect.objectContaining({ code }) as Error;

beforeEach((context) => {
  requires(context, 'kvm');
});

describe('memory slots', () => {
  test('what cannot be a slot is refused before the kernel is asked', () => {
    const vm = newVm();
    const mapping = anonymousMapping(4);
    const good: MemorySlot = { slot: 0, address: 0, lengthBytes: 4 * PAGE, mapping };
    const wrong: Partial<MemorySlot>[] = [
      { slot: -1 },
      { slot: 0.5 },
      { address: 1 },
      { address: -PAGE },
      { lengthBytes: 0 },
      { lengthBytes: PAGE + 1 },
      { lengthBytes: 5 * PAGE },
      { mappingOffset: PAGE },
      { mappingOffset: 1 },
      { mappingOffset: Number.MAX_SAFE_INTEGER },
    ];
    for (const change of wrong) {
      expect(() => {
        vm.setMemory({ ...good, ...change });
      }, JSON.stringify(change)).toThrow(errorWith('ERR_OUT_OF_RANGE'));
    }
    expect(() => {
      vm.setMemory({ slot: 0, address: 0, lengthBytes: PAGE });
    }).toThrow(errorWith('ERR_INVALID_ARGUMENT'));
    expect(vm.slots).toEqual([]);
    vm.setMemory(good);
    expect(vm.slots).toEqual([good]);
  });

  test('the kernel says no to overlaps and to numbers it does not have', () => {
    const vm = newVm();
    const mapping = anonymousMapping(4);
    vm.setMemory({ slot: 0, address: 0, lengthBytes: 4 * PAGE, mapping });
    const overlap = { slot: 1, address: 3 * PAGE, lengthBytes: PAGE, mapping };
    expect(() => {
      vm.setMemory(overlap);
    }).toThrow(errorWith('EEXIST'));
    expect(() => {
      vm.setMemory({ ...overlap, address: 4 * PAGE, slot: vm.capability('memorySlots') });
    }).toThrow(errorWith('EINVAL'));
    expect(() => {
      vm.setMemory({ slot: 0, address: 0, lengthBytes: PAGE, mapping });
    }).toThrow(/cannot be resized/);
    expect(() => {
      vm.removeMemory(7);
    }).toThrow(errorWith('ERR_OUT_OF_RANGE'));
  });

  test('a slot moves, and goes', async () => {
    const { vm, vcpu, mapping } = await guestOf([...load64(GUEST_BYTES), ...HLT]);
    await mapping.write(DATA, Buffer.from('moved on'));
    const slot = { slot: 1, lengthBytes: PAGE, mapping, mappingOffset: DATA };
    vm.setMemory({ ...slot, address: 2 * GUEST_BYTES });
    expect(vm.slotAt(2 * GUEST_BYTES + 5)).toEqual({ slot: 1, page: 0 });
    vm.setMemory({ ...slot, address: GUEST_BYTES });
    expect(vm.slotAt(2 * GUEST_BYTES)).toBeUndefined();
    const { registers } = vcpu;
    await runTo(vcpu, 'hlt');
    expect(vcpu.registers.rax).toBe(Buffer.from('moved on').readBigUInt64LE());
    vm.removeMemory(1);
    vcpu.registers = registers;
    expect(await runTo(vcpu, 'mmio')).toMatchObject({ address: GUEST_BYTES, write: false });
  });

  test('writes to a read-only slot are failures of the memory, never emulated', async () => {
    const { vm, vcpu, mapping } = await guestOf([...load64(GUEST_BYTES), ...store64(GUEST_BYTES), ...HLT]);
    vm.setMemory({ slot: 1, address: GUEST_BYTES, lengthBytes: PAGE, mapping, mappingOffset: DATA, readonly: true });
    await expect(vcpu.run()).rejects.toThrow(/a write to it failed/);
  });
});

describe('the dirty log', () => {
  test('has the pages the guest wrote, once', async () => {
    const { vm, vcpu, mapping } = await guestOf([...store64(DATA), ...store64(DATA + 70 * PAGE), ...HLT]);
    vm.setMemory({ slot: 0, address: 0, lengthBytes: GUEST_BYTES, mapping, logDirty: true });
    await runTo(vcpu, 'hlt');
    const first = DATA / PAGE;
    expect([...vm.dirtyLog(0)]).toEqual(expect.arrayContaining([first, first + 70]));
    expect([...vm.dirtyLog(0)]).toEqual([]);
  });

  test('protected manually it is cleared in pieces; initially all set', async () => {
    const { vm, mapping } = await guestOf(HLT);
    vm.protectDirtyLogManually({ initiallySet: true });
    vm.setMemory({ slot: 0, address: 0, lengthBytes: GUEST_BYTES, mapping, logDirty: true });
    const dirty = vm.dirtyLog(0);
    expect(dirty.pages).toBe(GUEST_BYTES / PAGE);
    expect([...dirty]).toHaveLength(dirty.pages);
    vm.clearDirtyLog(0, dirty, 64, 128);
    const left = vm.dirtyLog(0);
    expect([left.has(63), left.has(64), left.has(191), left.has(192)]).toEqual([true, false, false, true]);
    expect([...left]).toHaveLength(dirty.pages - 128);
    for (const [from, pages] of [
      [1, 64],
      [0, 63],
      [0, dirty.pages + 64],
      [0, 0],
    ] as const) {
      // prettier-ignore
      expect(() => {
        vm.clearDirtyLog(0, dirty, from, pages);
      }).toThrow(errorWith('ERR_OUT_OF_RANGE'));
    }
  });

  test('of a slot without one', async () => {
    const { vm } = await guestOf(HLT);
    expect(() => vm.dirtyLog(0)).toThrow(/^ENOENT: .*needs logDirty/);
    expect(() => vm.dirtyLog(5)).toThrow(errorWith('ERR_OUT_OF_RANGE'));
  });
});

test('private memory: converted where the VM type has it, and explained where not', async () => {
  const { vm } = await guestOf(HLT);
  const convert = () => {
    vm.setPrivate(0, PAGE, true);
  };
  if (vm.capability('memoryAttributes') !== 0) convert();
  else expect(convert).toThrow(/^(ENOTTY|EINVAL): .*needs a VM type with private memory/);
});

describe('closing', () => {
  test('the memory is let go of at once: it does not wait to be collected', async () => {
    const memfd = memfdOf(GUEST_BYTES / PAGE, 'given-back');
    const { vm, vcpu, mapping } = await guestOf(HLT, Mapping.map(memfd));
    await runTo(vcpu, 'hlt');
    mapping.unmap();
    expect(mappingsOf('given-back')).toBe(1);
    await vm.close();
    expect(mappingsOf('given-back')).toBe(0);
  });

  const orders: [string, ('kvm' | 'vm' | 'vcpu' | 'mapping')[]][] = [
    ['from the inside', ['vcpu', 'vm', 'kvm', 'mapping']],
    ['from the outside', ['kvm', 'mapping', 'vm', 'vcpu']],
    ['the memory first', ['mapping', 'vcpu', 'kvm', 'vm']],
    ['the VM first', ['vm', 'mapping', 'vcpu', 'kvm']],
  ];

  test.each(orders)('%s, while the guest runs: everything is given back', async (_, order) => {
    const before = [openDescriptors('/dev/kvm'), mappingsOf('kvm'), mappingsOf('zero')];
    const kvm = Kvm.open();
    const { mapping, vm: other } = await guestOf(FOREVER);
    const vm = kvm.createVm();
    vm.setMemory({ slot: 0, address: 0, lengthBytes: GUEST_BYTES, mapping });
    const vcpu = vm.createVcpu(0);
    vcpu.setCpuid(kvm.supportedCpuid());
    const donor = other.vcpus[0]!;
    vcpu.specialRegisters = donor.specialRegisters;
    vcpu.registers = donor.registers;
    const run = vcpu.run();
    const ends = {
      kvm: () => {
        kvm.close();
      },
      vm: () => vm.close(),
      vcpu: () => vcpu.close(),
      mapping: () => {
        mapping.unmap();
      },
    };
    await delay(10);
    for (const name of order) await ends[name]();
    expect(await run).toEqual({ type: 'intr' });
    await other.close();
    await vm.close();
    await vcpu.close();
    await expect(vcpu.run()).rejects.toThrow(errorWith('ERR_CLOSED'));
    expect(() => vm.createVcpu(1)).toThrow(errorWith('ERR_CLOSED'));
    // The helper keeps /dev/kvm open until the test has finished.
    const [descriptors, ...mappings] = before;
    expect(openDescriptors('anon_inode:kvm-v')).toBe(0);
    expect(openDescriptors('/dev/kvm')).toBeLessThanOrEqual(descriptors! + 2);
    expect([mappingsOf('kvm'), mappingsOf('zero')]).toEqual(mappings);
  });
});
