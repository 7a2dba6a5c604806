// /dev/kvm: opening it, what it says it can do, and what it says when it cannot be had.
import { beforeEach, describe, expect, test } from 'vitest';
import { Capability, Kvm } from '../../dist/index.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';
import { openKvm } from './support.js';

describe('a path that is no KVM', () => {
  test('does not exist: ENOENT, with the remedy', () => {
    expect(() => Kvm.open('/dev/no-such-kvm')).toThrow(/^ENOENT: .*\/dev\/no-such-kvm: no KVM here: load the module/);
  });

  test('is something else: ENOTTY, and nothing stays open', () => {
    const before = openDescriptors('/dev/null');
    expect(() => Kvm.open('/dev/null')).toThrow(/^ENOTTY: .*\/dev\/null is not KVM/);
    expect(openDescriptors('/dev/null')).toBe(before);
  });
});

describe('KVM', () => {
  beforeEach((context) => {
    requires(context, 'kvm');
  });

  test('has version 12, and capabilities by name and by number', () => {
    const kvm = openKvm();
    expect(kvm.apiVersion).toBe(12);
    expect(kvm.capability('userMemory')).toBe(1);
    expect(kvm.capability(Capability.maxVcpus)).toBeGreaterThanOrEqual(1);
    expect(kvm.capability(999_999)).toBe(0);
    expect(kvm.vmTypes).toContain(0);
  });

  test('knows CPUID leaves and MSRs', () => {
    const kvm = openKvm();
    const cpuid = kvm.supportedCpuid();
    const longMode = cpuid.find((entry) => entry.function === 0x80000001);
    expect((longMode?.edx ?? 0) & (1 << 29)).not.toBe(0);
    expect(kvm.msrIndices()).toContain(0xc0000081);
  });

  test('a type that is none is refused with those there are', () => {
    const kvm = openKvm();
    expect(() => kvm.createVm({ type: 31 })).toThrow(/^EINVAL: .*type 31: this KVM has 0/);
    expect(() => kvm.createVm({ type: -1 })).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }) as Error);
  });

  test('closed is closed; VMs live on', async () => {
    const kvm = openKvm();
    const vm = kvm.createVm();
    kvm.close();
    kvm.close();
    expect(kvm.closed).toBe(true);
    expect(() => kvm.capability('userMemory')).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }) as Error);
    expect(vm.capability('userMemory')).toBe(1);
    await vm.close();
    expect(() => vm.capability('userMemory')).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }) as Error);
  });

  test('descriptors are close-on-exec and closed at the end', async () => {
    const open = () => openDescriptors('/dev/kvm') + openDescriptors('anon_inode:kvm');
    const before = open();
    {
      using kvm = Kvm.open();
      await using vm = kvm.createVm();
      vm.createVcpu(0);
      expect(open()).toBe(before + 3);
    }
    expect(open()).toBe(before);
  });
});
