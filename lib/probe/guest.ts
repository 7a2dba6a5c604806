// A guest under examination: a vCPU in long mode that runs a few instructions, and in a word what came of it. Nothing is
// refused or repaired: lib/kvm would turn an access that failed into an error.
import { decodeExit } from '../kvm/exits.js';
import { decodeSpecialRegisters, encodeRegisters, encodeSpecialRegisters } from '../kvm/registers.js';
import type { Mapping } from '../memory/mapping.js';
import { type NativeKvmVcpu, type NativeKvmVm, VcpuState } from '../native/kvm-contract.js';
import { native } from '../native/load.js';
import { Layout } from '../vmm/guest-program.js';
import { longMode, pageTables, registersAt } from '../vmm/long-mode.js';
import { outcomeName } from './kernel.js';
import { NotThere } from './probe.js';
import type { Scene } from './scene.js';
import { VmSubject, openKvm } from './vm.js';

const KVM_GET_VCPU_MMAP_SIZE = 0xae04;
const EHWPOISON = -133;
const MEM_GUEST_MEMFD = 4;
const F_DUPFD_CLOEXEC = 1030;
/** Up to and with the page of the code. */
const OWN_PAGES = Layout.code / 4096 + 1;
const MAPPED_BYTES = 2 ** 30;
const INTERRUPTS_ENABLED = 0x200n;

/** mov al, [data]; the byte goes out at the end of every program. */
const LOAD = [0x8a, 0x04, 0x25, ...[0, 8, 16, 24].map((shift) => (Layout.data >>> shift) & 0xff)];
/** mov ecx, 1000; and down to zero. */
const COUNT = [0xb9, 0xe8, 0x03, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xfc];
/** mov dx, 0x500; out dx, al */
const OUT = [0x66, 0xba, 0x00, 0x05, 0xee];

export const programs = { load: LOAD, count: COUNT } as const;

/** The memory at `Layout.data`. */
export interface GuestMemory {
  readonly mapping: Mapping;
  readonly guestMemfd?: number;
}

export interface GuestOptions {
  readonly program?: keyof typeof programs;
  readonly memory?: GuestMemory;
  readonly vm?: VmSubject;
  /** An interrupt controller in the kernel, and interrupts enabled. */
  readonly interrupts?: boolean;
}

export class Guest {
  readonly #vcpu: NativeKvmVcpu;

  private constructor(vcpu: NativeKvmVcpu) {
    this.#vcpu = vcpu;
  }

  /** Give it memory that is mapped already: it goes first when the probe ends. @throws NotThere */
  static async create(scene: Scene, options: GuestOptions = {}): Promise<Guest> {
    const { program = 'load', memory, vm = VmSubject.create(scene), interrupts = false } = options;
    if (interrupts) vm.createIrqchip();
    const own = scene.anonymous(OWN_PAGES);
    await own.write(Layout.pageTables, pageTables(MAPPED_BYTES));
    await own.write(Layout.code, Uint8Array.from([...programs[program], ...OUT]));
    const machine = new (native().KvmVm)(scene.call('fcntl', vm.fd, F_DUPFD_CLOEXEC, 0));
    scene.defer(() => {
      machine.close();
    });
    setMemory(machine, 0, 0, { mapping: own });
    if (memory !== undefined) setMemory(machine, 1, Layout.data, memory);
    const vcpu = scene.kernel.vcpu(machine, runBytes(scene));
    scene.defer(() => {
      vcpu.close();
    });
    prepare(scene, vcpu, interrupts);
    return new Guest(vcpu);
  }

  get fd(): number {
    return this.#vcpu.fd();
  }

  /**
   * `read N` of a program that has come to its end, `mmio` of an access to memory that failed in the emulator, `SIGBUS`, an
   * errno of KVM_RUN, or the name of another exit.
   */
  run(): Promise<string> {
    return new Promise((resolve) => {
      const started = this.#vcpu.run(undefined, (result, failedAddress, _faults, _waitedNs, exit) => {
        resolve(describe(result, failedAddress, exit));
      });
      if (started < 0) resolve(outcomeName(started));
    });
  }

  /** A signal to the thread of the vCPU. */
  interrupt(): void {
    this.#vcpu.interrupt(true);
  }

  /** KVM_PRE_FAULT_MEMORY of the first page of its memory. */
  preFault(): string {
    const left = this.#vcpu.preFault(Layout.data, 4096);
    return typeof left === 'number' ? outcomeName(left) : 'ok';
  }
}

function runBytes(scene: Scene): number {
  const bytes = scene.call('ioctl', openKvm(scene), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (bytes < 0) throw new NotThere({ seen: outcomeName(bytes) }, 'KVM_GET_VCPU_MMAP_SIZE');
  return bytes;
}

function supportedCpuid(): Uint32Array | number {
  const system = new (native().Kvm)('/dev/kvm');
  const words = system.supportedCpuid();
  system.close();
  return words;
}

function setMemory(machine: NativeKvmVm, slot: number, address: number, memory: GuestMemory): void {
  const { mapping, guestMemfd } = memory;
  const flags = guestMemfd === undefined ? 0 : MEM_GUEST_MEMFD;
  const set = machine.setMemory(slot, flags, address, mapping.lengthBytes, mapping.handle, 0, guestMemfd ?? -1, 0);
  if (set < 0)
    throw new NotThere({ seen: outcomeName(set) }, `a memory slot${guestMemfd === undefined ? '' : ' of guest_memfd'}`);
}

/** From Linux 7.2 on long mode is refused to a vCPU without a CPUID that has it. */
function prepare(scene: Scene, vcpu: NativeKvmVcpu, interrupts: boolean): void {
  const failed = (returned: number, what: string) => {
    if (returned < 0) throw new NotThere({ seen: outcomeName(returned) }, what);
  };
  failed(vcpu.error(), 'KVM_CREATE_VCPU');
  const cpuid = supportedCpuid();
  failed(typeof cpuid === 'number' ? cpuid : vcpu.setCpuid(cpuid), 'KVM_SET_CPUID2');
  const special = vcpu.getState(VcpuState.specialRegisters);
  if (typeof special === 'number') throw new NotThere({ seen: outcomeName(special) }, 'KVM_GET_SREGS');
  const long = encodeSpecialRegisters(longMode(decodeSpecialRegisters(special)));
  failed(vcpu.setState(VcpuState.specialRegisters, long), 'KVM_SET_SREGS');
  const registers = registersAt(0, 0, { start: 0, end: 0, strideBytes: 0 });
  if (interrupts) registers.rflags |= INTERRUPTS_ENABLED;
  failed(vcpu.setState(VcpuState.registers, encodeRegisters(registers)), 'KVM_SET_REGS');
}

function describe(result: number, failedAddress: number, bytes: Buffer): string {
  if (result === EHWPOISON && failedAddress >= 0) return 'SIGBUS';
  if (result < 0) return outcomeName(result);
  const exit = decodeExit(result, bytes);
  return exit.type === 'io' ? `read ${exit.data[0] ?? 'nothing'}` : exit.type;
}
