// Guests of a few instructions in 64-bit long mode, run for real; closed when the test ends.
import { onTestFinished } from 'vitest';
import { Kvm, type Mapping, type Vcpu, type VcpuExit, type Vm } from '../../dist/index.js';
import { longMode, pageTables, registersAt } from '../../dist/vmm/long-mode.js';
import { Layout } from '../../dist/vmm/guest-program.js';
import { milliseconds } from '../support/deadline.js';
import { anonymousMapping } from '../support/memory.js';

/** The guest's memory: page tables and code at `Layout`, and this for its data. */
export const DATA = Layout.data;
export const GUEST_BYTES = 4 * 2 ** 20;

export function openKvm(): Kvm {
  const kvm = Kvm.open();
  onTestFinished(() => {
    kvm.close();
  });
  return kvm;
}

export function newVm(type = 0): Vm {
  const vm = openKvm().createVm({ type });
  onTestFinished(() => vm.close(milliseconds(2000)).catch(() => undefined));
  return vm;
}

export interface Guest {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly mapping: Mapping;
}

/** Page tables and code, for guests whose memory the test makes itself. */
export async function load(mapping: Mapping, code: readonly number[]): Promise<void> {
  await mapping.write(Layout.pageTables, pageTables(2 ** 30));
  await mapping.write(Layout.code, Buffer.from(code));
}

/** A vCPU at the first instruction of the code. */
export function vcpuAtCode(vm: Vm, id = 0): Vcpu {
  const vcpu = vm.createVcpu(id);
  vcpu.setCpuid(openKvm().supportedCpuid());
  vcpu.specialRegisters = longMode(vcpu.specialRegisters);
  vcpu.registers = registersAt(0, id, { start: DATA, end: DATA, strideBytes: 8 });
  return vcpu;
}

/** A guest with 4 MiB of memory from address 0 on. */
export async function guestOf(
  code: readonly number[],
  mapping = anonymousMapping(GUEST_BYTES / 4096),
  vmType = 0,
): Promise<Guest> {
  await load(mapping, code);
  const vm = newVm(vmType);
  vm.setMemory({ slot: 0, address: 0, lengthBytes: GUEST_BYTES, mapping });
  return { vm, vcpu: vcpuAtCode(vm), mapping };
}

/** Runs, with a deadline, and expects that kind of exit. */
export async function runTo<Type extends VcpuExit['type']>(
  vcpu: Vcpu,
  type: Type,
  reply?: Uint8Array,
): Promise<Extract<VcpuExit, { type: Type }>> {
  const timer = setTimeout(() => {
    vcpu.interrupt();
  }, milliseconds(5000));
  try {
    const exit = await vcpu.run(reply);
    if (exit.type !== type) throw new Error(`expected the exit ${type}, not ${JSON.stringify(exit, bigintAsText)}`);
    return exit as Extract<VcpuExit, { type: Type }>;
  } finally {
    clearTimeout(timer);
  }
}

function bigintAsText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

/** mov rax, [address] */
export function load64(address: number): number[] {
  return [0x48, 0x8b, 0x04, 0x25, ...little32(address)];
}

/** mov [address], rax */
export function store64(address: number): number[] {
  return [0x48, 0x89, 0x04, 0x25, ...little32(address)];
}

function little32(value: number): number[] {
  return [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
}

export const HLT = [0xf4];
/** jmp to itself */
export const FOREVER = [0xeb, 0xfe];
/** mov dx, 0x500; out dx, al */
export const OUT = [0x66, 0xba, 0x00, 0x05, 0xee];
/** mov dx, 0x500; in al, dx */
export const IN = [0x66, 0xba, 0x00, 0x05, 0xec];
