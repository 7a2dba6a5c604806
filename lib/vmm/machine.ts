// A machine: a VM with its vCPUs and its three ports, run until the guest says that it is done.
import { UffdError } from '../errors.js';
import type { VcpuExit } from '../kvm/exits.js';
import type { Kvm } from '../kvm/kvm.js';
import type { Vcpu } from '../kvm/vcpu.js';
import type { StopOptions, Vm } from '../kvm/vm.js';
import { Control, Port } from './guest-program.js';

export interface MachineOptions {
  /** How many vCPUs work; at least one. */
  readonly vcpus: number;
  /** What the guest prints. */
  readonly onSerial: (text: string) => void;
}

/** Waiting of the guest for its memory, over all runs of all vCPUs. */
export interface GuestWaits {
  readonly faults: number;
  readonly waitedMs: number;
}

export class Machine implements AsyncDisposable {
  readonly vm: Vm;
  readonly vcpus: readonly Vcpu[];
  readonly #onSerial: (text: string) => void;
  readonly #ended = new AbortController();

  constructor(kvm: Kvm, vm: Vm, options: MachineOptions) {
    this.vm = vm;
    this.#onSerial = options.onSerial;
    const cpuid = kvm.supportedCpuid();
    this.vcpus = Array.from({ length: options.vcpus }, (_, id) => {
      const vcpu = vm.createVcpu(id);
      vcpu.setCpuid(cpuid);
      return vcpu;
    });
  }

  /**
   * Runs all vCPUs until each has halted and one has said that the work is done. Their last port access is completed then.
   * @throws UffdError ERR_GUEST_FAILED, ERR_GUEST_MEMORY; the reason of `stop` when it was stopped
   */
  async run(): Promise<void> {
    try {
      const ends = await Promise.all(this.vcpus.map((vcpu) => this.#runVcpu(vcpu)));
      if (!ends.includes('done')) throw new UffdError('ERR_GUEST_FAILED', 'every vCPU has halted, and none was done');
    } catch (error) {
      if (this.#ended.signal.aborted) throw this.#ended.signal.reason;
      throw error;
    }
  }

  /** Ends a `run` with this reason: makes all vCPUs stand, as `vm.stop` does. */
  async stop(reason: Error, options?: StopOptions): Promise<void> {
    this.#ended.abort(reason);
    await this.vm.stop(options);
  }

  waits(): GuestWaits {
    const all = this.vcpus.map(({ waits }) => waits);
    return {
      faults: all.reduce((sum, { faults }) => sum + faults, 0),
      waitedMs: all.reduce((sum, { waitedMs }) => sum + waitedMs, 0),
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.vm.close();
  }

  async #runVcpu(vcpu: Vcpu): Promise<'done' | 'halted'> {
    let reply: Uint8Array | undefined;
    for (;;) {
      this.#ended.signal.throwIfAborted();
      const exit = await vcpu.run(reply);
      reply = undefined;
      if (exit.type === 'hlt') return 'halted';
      if (exit.type === 'intr') continue;
      if (exit.type !== 'io') throw crashed(vcpu, exit);
      if (exit.direction === 'in' && exit.port === Port.vcpus)
        reply = new Uint8Array(Uint32Array.of(this.vcpus.length).buffer);
      else if (exit.direction === 'out' && exit.port === Port.serial) this.#onSerial(exit.data.toString('latin1'));
      else if (exit.direction === 'out' && exit.port === Port.control) {
        if (exit.data[0] === Control.wrong) throw foundWrong(vcpu);
        await vcpu.complete();
        return 'done';
      } else throw crashed(vcpu, exit);
    }
  }
}

function foundWrong(vcpu: Vcpu): UffdError {
  const at = vcpu.registers.r12.toString(16);
  return new UffdError('ERR_GUEST_FAILED', `the guest found wrong bytes at 0x${at} (vCPU ${vcpu.id})`);
}

function crashed(vcpu: Vcpu, exit: VcpuExit): UffdError {
  const { rip } = vcpu.registers;
  const details = Object.entries(exit)
    .filter(([, value]) => ['string', 'number', 'bigint', 'boolean'].includes(typeof value))
    .map(([name, value]) => (name === 'type' ? String(value) : `${name} ${String(value)}`));
  return new UffdError(
    'ERR_GUEST_FAILED',
    `vCPU ${vcpu.id} at 0x${rip.toString(16)} ended with: ${details.join(', ')}`,
  );
}
