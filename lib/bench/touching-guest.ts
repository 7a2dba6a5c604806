// A guest that does nothing but touch its memory: every vCPU reads one word of each page of its part, and adds them up.
import { UffdError } from '../errors.js';
import type { Kvm } from '../kvm/kvm.js';
import type { Vcpu } from '../kvm/vcpu.js';
import type { Vm } from '../kvm/vm.js';
import { Mapping } from '../memory/mapping.js';
import { native } from '../native/load.js';
import { Layout } from '../vmm/guest-program.js';
import { longMode, pageTables, registersAt } from '../vmm/long-mode.js';
import { poisonAbsent } from '../vmm/poison.js';
import type { FaultingMemory } from './handlers.js';

// prettier-ignore
const code = Buffer.from([
  // next:
  0x4c, 0x03, 0x26, // add r12,QWORD PTR [rsi]
  0x4c, 0x01, 0xc6, // add rsi,r8
  0x48, 0x39, 0xfe, // cmp rsi,rdi
  0x72, 0xf5, // jb next
  0xf4, // hlt
]);

/** Guest address of the memory that is touched: that of a huge page. Below it: page tables and code, which never fault. */
const TOUCHED = 2 ** 21;
/** For the vCPUs to come to an end; and to stand, when they have not. */
const RUN_MS = 60_000;
const STOP_MS = 2000;

/** Registered, and served by whoever. */
type TouchedMemory = Pick<FaultingMemory, 'mapping' | 'userfaultfd' | 'region'>;

export class TouchingGuest implements AsyncDisposable {
  readonly #vm: Vm;
  readonly #low: Mapping;
  readonly #memory: TouchedMemory;
  readonly #vcpus: Vcpu[] = [];

  private constructor(vm: Vm, low: Mapping, memory: TouchedMemory) {
    this.#vm = vm;
    this.#low = low;
    this.#memory = memory;
  }

  /** @param cpus where the threads of the vCPUs may run; empty: anywhere */
  static async create(
    kvm: Kvm,
    memory: TouchedMemory,
    options: { readonly vcpus: number; readonly cpus: readonly number[] },
  ): Promise<TouchingGuest> {
    const guest = new TouchingGuest(kvm.createVm(), Mapping.anonymous(Layout.data), memory);
    try {
      await guest.#load();
      onCpus(options.cpus, () => {
        for (let id = 0; id < options.vcpus; id++) guest.#addVcpu(kvm, id, options.vcpus);
      });
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
    return guest;
  }

  /** Runs every vCPU to its end. The time from the first KVM_RUN to the last end, and what each has added up. */
  async run(signal: AbortSignal): Promise<{ seconds: number; sums: bigint[] }> {
    signal.throwIfAborted();
    const ended = AbortSignal.any([signal, AbortSignal.timeout(RUN_MS)]);
    const stop = () => void this.#stop().catch(() => undefined);
    ended.addEventListener('abort', stop);
    try {
      const began = performance.now();
      const exits = await Promise.all(this.#vcpus.map((vcpu) => vcpu.run()));
      const seconds = (performance.now() - began) / 1000;
      ended.throwIfAborted();
      const other = exits.find(({ type }) => type !== 'hlt');
      if (other !== undefined) throw new UffdError('ERR_GUEST_FAILED', `a vCPU ended with ${other.type}`);
      return { seconds, sums: this.#vcpus.map((vcpu) => vcpu.registers.r12) };
    } catch (error) {
      throw ended.aborted ? ended.reason : error;
    } finally {
      ended.removeEventListener('abort', stop);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#vm.close(STOP_MS);
    this.#low.unmap();
  }

  async #load(): Promise<void> {
    const { mapping } = this.#memory;
    await this.#low.write(Layout.pageTables, pageTables(TOUCHED + mapping.lengthBytes));
    await this.#low.write(Layout.code, code);
    this.#vm.setMemory({ slot: 0, address: 0, lengthBytes: this.#low.lengthBytes, mapping: this.#low });
    this.#vm.setMemory({ slot: 1, address: TOUCHED, lengthBytes: mapping.lengthBytes, mapping });
  }

  #addVcpu(kvm: Kvm, id: number, vcpus: number): void {
    const { lengthBytes, pageSize } = this.#memory.mapping;
    const part = lengthBytes / vcpus;
    const start = TOUCHED + id * part;
    const vcpu = this.#vm.createVcpu(id);
    vcpu.setCpuid(kvm.supportedCpuid());
    vcpu.specialRegisters = longMode(vcpu.specialRegisters);
    vcpu.registers = registersAt(0, id, { start, end: start + part, strideBytes: pageSize });
    this.#vcpus.push(vcpu);
  }

  #stop(): Promise<void> {
    const { userfaultfd, region } = this.#memory;
    return this.#vm.stop({ poison: () => poisonAbsent(userfaultfd, region), deadlineMs: STOP_MS });
  }
}

/** Threads have the affinity of the one that makes them. */
function onCpus(cpus: readonly number[], make: () => void): void {
  if (cpus.length === 0) {
    make();
    return;
  }
  const before = native().affinity();
  native().setAffinity([...cpus]);
  try {
    make();
  } finally {
    native().setAffinity(before);
  }
}
