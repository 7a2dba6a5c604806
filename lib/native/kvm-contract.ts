// The part of the written contract that is about KVM; see contract.ts.
import type { NativeMapping } from './contract.js';

export interface NativeKvm {
  error(): number;
  apiVersion(): number;
  capability(number: number): number;
  runSize(): number;
  /** A descriptor. */
  createVm(type: number): number;
  /** Ten words for each entry: kvm_cpuid_entry2. */
  supportedCpuid(): Uint32Array | number;
  msrIndices(): Uint32Array | number;
  close(): void;
}

export interface NativeKvmVm {
  capability(number: number): number;
  /** Length 0 takes the slot away; the descriptor is -1 for a slot without guest_memfd. */
  setMemory(
    slot: number,
    flags: number,
    guestAddress: number,
    length: number,
    mapping: NativeMapping | undefined,
    mappingOffset: number,
    guestMemfd: number,
    guestMemfdOffset: number,
  ): number;
  /** A descriptor, close-on-exec. */
  createGuestMemfd(size: number, flags: number): number;
  setAttributes(guestAddress: number, length: number, attributes: number): number;
  enableCapability(number: number, argument: number): number;
  dirtyLog(slot: number, bitmap: Uint8Array): number;
  clearDirtyLog(slot: number, firstPage: number, pages: number, bitmap: Uint8Array): number;
  close(): void;
}

/** Pieces of a vCPU's state, in the order of native kvm_vcpu::State. */
export const VcpuState = { registers: 0, specialRegisters: 1, fpu: 2, events: 3, mpState: 4 } as const;

export interface NativeKvmVcpu {
  error(): number;
  /** Stays its own. */
  fd(): number;
  getState(kind: number): Buffer | number;
  setState(kind: number, bytes: Uint8Array): number;
  setCpuid(words: Uint32Array): number;
  /** Writes the values into the entries (kvm_msr_entry). How many, from the first on, could be read. */
  getMsrs(entries: Uint8Array): number;
  setMsrs(entries: Uint8Array): number;
  /** What is left of the range. */
  preFault(guestAddress: number, length: number): [guestAddress: number, length: number] | number;
  /**
   * The callback comes once, unless the vCPU is closed before. `failedAddress` is the guest address of a page whose poison
   * was reported by SIGBUS, or -1; `waitedNs` the time the
   * thread was not on a CPU; `exit` is kvm_run up to the end of the exit's data, and then the data of a port.
   */
  run(
    reply: Uint8Array | undefined,
    callback: (result: number, failedAddress: number, faults: number, waitedNs: number, exit: Buffer) => void,
  ): number;
  interrupt(signal: boolean): void;
  close(): void;
}

export interface NativeKvmClasses {
  Kvm: new (path: string) => NativeKvm;
  KvmVm: new (fd: number) => NativeKvmVm;
  KvmVcpu: new (vm: NativeKvmVm, id: number, runSize: number) => NativeKvmVcpu;
}
