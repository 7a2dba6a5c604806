// A vCPU: its state while it stands, and runs of it on a thread of its own.
import { KernelError, UffdError, checked } from '../errors.js';
import { type NativeKvmVcpu, VcpuState } from '../native/kvm-contract.js';
import { type CpuidEntry, cpuidWords } from './cpuid.js';
import { type VcpuExit, decodeExit } from './exits.js';
import { GuestMemoryError } from './guest-memory-error.js';
import { decodeMsrs, encodeMsrs } from './msrs.js';
import {
  type Registers,
  type SpecialRegisters,
  decodeRegisters,
  decodeSpecialRegisters,
  encodeRegisters,
  encodeSpecialRegisters,
} from './registers.js';

/** The pieces of a vCPU's state, each a struct of the kernel. */
export type VcpuStateName = keyof typeof VcpuState;

/** KVM_GET_MP_STATE: only `runnable` and `halted` exist without an interrupt controller in the kernel. */
export const MpState = { runnable: 0, uninitialized: 1, initReceived: 2, halted: 3, sipiReceived: 4 } as const;

/** What a vCPU asks of its VM. */
export interface SlotLookup {
  /** The memory slot a guest address lies in, and the page of it. */
  slotAt(address: number): { readonly slot: number; readonly page: number } | undefined;
}

const STOP_MS = 2000;
const EHWPOISON = -133;

interface RawExit {
  readonly result: number;
  readonly failedAddress: number;
  readonly exit: Buffer;
}

/** A run under way. */
class Run {
  readonly exited: Promise<RawExit>;
  resolve!: (exit: RawExit) => void;
  /** Gives it up: nobody waits any more for what it exits with. */
  reject!: (error: Error) => void;

  constructor() {
    this.exited = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

/** A vCPU of a `Vm` (x86). */
export class Vcpu implements AsyncDisposable {
  readonly #native: NativeKvmVcpu;
  readonly #slots: SlotLookup;
  #run: Run | undefined;
  #failure: GuestMemoryError | undefined;
  #closing: Promise<void> | undefined;
  #faults = 0;
  #waitedMs = 0;
  readonly id: number;

  /** @internal */
  constructor(vcpu: NativeKvmVcpu, id: number, slots: SlotLookup) {
    this.#native = vcpu;
    this.#slots = slots;
    this.id = id;
  }

  get running(): boolean {
    return this.#run !== undefined;
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Of all runs that have ended: how often its thread slept, which it does for page faults that somebody has to answer, and
   * little else; and the time it was off the CPU: waiting for the answers and, on a busy machine, for a CPU.
   */
  get waits(): { readonly faults: number; readonly waitedMs: number } {
    return { faults: this.#faults, waitedMs: this.#waitedMs };
  }

  /**
   * KVM_RUN, on the vCPU's own thread; resolves with the exit.
   * @param reply the bytes for the port or the address that the last exit wanted to read
   * @throws GuestMemoryError for a page that cannot be had: poisoned, truncated, unmapped. The vCPU does not run again:
   *   an emulating KVM would go on with whatever bytes it has. KernelError of KVM_RUN, UffdError ERR_VCPU_RUNNING
   */
  async run(reply?: Uint8Array): Promise<VcpuExit> {
    const vcpu = this.#standing();
    if (this.#failure !== undefined) throw this.#failure;
    const { result, failedAddress, exit } = await this.#runOnce(vcpu, reply);
    return this.#judge(result, failedAddress, exit);
  }

  /**
   * Completes the last exit (the port or MMIO access is done, the instruction is over) without running the guest: before
   * its state is taken. `reply` as for `run`.
   */
  async complete(reply?: Uint8Array): Promise<void> {
    this.#standing().interrupt(false);
    const exit = await this.run(reply);
    if (exit.type === 'intr') return;
    throw new UffdError('ERR_GUEST_FAILED', `vCPU ${this.id} cannot complete its last exit: ${exit.type}`);
  }

  /**
   * The run under way, or else the next one, ends with `intr`. It is not enough for a vCPU that waits in a page fault:
   * answer that first. With `signal: false` only immediate_exit is set, which a guest that runs does not see.
   */
  interrupt(options: { readonly signal?: boolean } = {}): void {
    this.#open().interrupt(options.signal ?? true);
  }

  /** Interrupts, and resolves when it stands; false when it still does not after `deadlineMs`. */
  async stop(deadlineMs = STOP_MS): Promise<boolean> {
    const run = this.#run;
    if (run === undefined) return true;
    this.#native.interrupt(true);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => {
        resolve(false);
      }, deadlineMs);
    });
    try {
      const ended = run.exited.then(
        () => true,
        () => true,
      );
      return await Promise.race([ended, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  get registers(): Registers {
    return decodeRegisters(this.state('registers'));
  }

  set registers(registers: Registers) {
    this.setState('registers', encodeRegisters(registers));
  }

  get specialRegisters(): SpecialRegisters {
    return decodeSpecialRegisters(this.state('specialRegisters'));
  }

  /** Give it its CPUID first: from Linux 7.2 on, long mode is refused to a vCPU that does not have it. */
  set specialRegisters(registers: SpecialRegisters) {
    this.setState('specialRegisters', encodeSpecialRegisters(registers));
  }

  /** A piece of its state as the kernel's own struct: what a snapshot keeps. `events` include a latched INIT. */
  state(name: VcpuStateName): Buffer {
    return checked(this.#standing().getState(VcpuState[name]), `KVM_GET ${name}`) as Buffer;
  }

  /** @throws UffdError ERR_OUT_OF_RANGE for another size than that of the struct */
  setState(name: VcpuStateName, bytes: Uint8Array): void {
    const { length } = this.state(name);
    if (bytes.length !== length) {
      throw new UffdError('ERR_OUT_OF_RANGE', `the ${name} of a vCPU are ${length} bytes, not ${bytes.length}`);
    }
    const detail = name === 'specialRegisters' ? 'set the CPUID first, and registers the processor has' : undefined;
    checked(this.#standing().setState(VcpuState[name], bytes), `KVM_SET ${name}`, detail);
  }

  get mpState(): number {
    return this.state('mpState').readUInt32LE();
  }

  set mpState(state: number) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(state);
    this.setState('mpState', bytes);
  }

  /** KVM_SET_CPUID2; before `specialRegisters` are set (Linux 7.2 insists). @throws KernelError */
  setCpuid(entries: readonly CpuidEntry[]): void {
    checked(this.#standing().setCpuid(cpuidWords(entries)), 'KVM_SET_CPUID2', `${entries.length} entries`);
  }

  /** The values of those of these MSRs that this vCPU has. */
  msrs(indices: readonly number[]): Map<number, bigint> {
    const vcpu = this.#standing();
    const values = new Map<number, bigint>();
    // The kernel stops at the first it does not know.
    for (let rest = indices; rest.length > 0;) {
      const entries = encodeMsrs(rest.map((index) => [index, 0n] as const));
      const read = checked<number>(vcpu.getMsrs(entries), 'KVM_GET_MSRS');
      for (const [index, value] of decodeMsrs(entries).slice(0, read)) values.set(index, value);
      rest = rest.slice(read + 1);
    }
    return values;
  }

  /** @returns those the kernel would not take */
  setMsrs(values: Iterable<readonly [index: number, value: bigint]>): number[] {
    const vcpu = this.#standing();
    const refused: number[] = [];
    for (let rest = [...values]; rest.length > 0;) {
      const written = checked<number>(vcpu.setMsrs(encodeMsrs(rest)), 'KVM_SET_MSRS');
      if (written < rest.length) refused.push(rest[written]![0]);
      rest = rest.slice(written + 1);
    }
    return refused;
  }

  /**
   * KVM_PRE_FAULT_MEMORY (6.11): maps guest memory without running the guest. Blocks this thread for pages that are served.
   * @throws KernelError ENOTSUP without two-dimensional paging, ENOENT outside the memory slots
   */
  preFault(address: number, lengthBytes: number): void {
    const vcpu = this.#standing();
    for (let [at, left] = [address, lengthBytes]; left > 0;) {
      const rest = checked(
        vcpu.preFault(at, left),
        'KVM_PRE_FAULT_MEMORY',
        `${left} bytes at 0x${at.toString(16)}: needs two-dimensional paging, and Linux 6.11`,
      );
      [at, left] = rest as [number, number];
    }
  }

  /**
   * Idempotent. Interrupts a run and waits for its end.
   * @throws UffdError ERR_VCPU_STUCK when it waits in a page fault past the deadline; its thread is left behind then
   */
  close(deadlineMs = STOP_MS): Promise<void> {
    return (this.#closing ??= this.#close(deadlineMs));
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(deadlineMs: number): Promise<void> {
    const stopped = await this.stop(deadlineMs);
    this.#native.close();
    if (stopped) return;
    const stuck = new UffdError(
      'ERR_VCPU_STUCK',
      `vCPU ${this.id} did not stop within ${deadlineMs} ms: it waits in a page fault that nobody answers; poison it first`,
    );
    const run = this.#run;
    this.#run = undefined;
    run?.reject(stuck);
    throw stuck;
  }

  #runOnce(vcpu: NativeKvmVcpu, reply: Uint8Array | undefined): Promise<RawExit> {
    const run = new Run();
    const started = vcpu.run(reply, (result, failedAddress, faults, waitedNs, exit) => {
      this.#run = undefined;
      this.#faults += faults;
      this.#waitedMs += waitedNs / 1e6;
      run.resolve({ result, failedAddress, exit });
    });
    if (started < 0) return Promise.reject(new KernelError(started, 'KVM_RUN'));
    this.#run = run;
    return run.exited;
  }

  #judge(result: number, failedAddress: number, bytes: Buffer): VcpuExit {
    if (result === EHWPOISON && failedAddress >= 0) this.#memoryFailed(failedAddress, 'it is poisoned');
    const exit = decodeExit(result, bytes);
    if (exit.type === 'mmio' && this.#slots.slotAt(exit.address) !== undefined) {
      // The fault of an access that KVM emulates looks like this: to answer it would be to invent the bytes.
      this.#memoryFailed(exit.address, `a ${exit.write ? 'write to' : 'read of'} it failed`);
    }
    return exit;
  }

  #memoryFailed(address: number, why: string): never {
    this.#failure = new GuestMemoryError(this.id, address, this.#slots.slotAt(address), why);
    throw this.#failure;
  }

  #standing(): NativeKvmVcpu {
    const vcpu = this.#open();
    if (this.#run === undefined) return vcpu;
    throw new UffdError('ERR_VCPU_RUNNING', `vCPU ${this.id} is running: interrupt it, and wait for the run to end`);
  }

  #open(): NativeKvmVcpu {
    if (this.#closing !== undefined) throw new UffdError('ERR_CLOSED', `vCPU ${this.id} is closed`);
    return this.#native;
  }
}
