// /dev/kvm: what this machine's KVM can do, and new VMs.
import { KernelError, UffdError, checked } from '../errors.js';
import type { NativeKvm } from '../native/kvm-contract.js';
import { native } from '../native/load.js';
import { type CapabilityName, capabilityNumber } from './capabilities.js';
import { type CpuidEntry, cpuidEntries } from './cpuid.js';
import { Vm } from './vm.js';

/** The version since Linux 2.6.22; there has been no other. */
const API_VERSION = 12;

const remedies: Record<number, string> = {
  [-2]: 'no KVM here: load the module kvm_intel or kvm_amd, enable virtualization in the firmware, or nested in the host',
  [-13]: 'give this user access: add it to the group kvm, or use setfacl -m u:USER:rw /dev/kvm',
  [-1]: 'the device is forbidden here: in a container add --device /dev/kvm',
  [-6]: 'the module kvm is loaded, but not one for this processor: load kvm_intel or kvm_amd',
};

/** What is asked of KVM_CREATE_VM. */
export interface CreateVmOptions {
  /** A type of `vmTypes`. Default 0, the machine's normal one. */
  readonly type?: number;
}

/** KVM itself (/dev/kvm, Documentation/virt/kvm/api.rst). Close-on-exec. VMs outlive it. */
export class Kvm implements Disposable {
  readonly #native: NativeKvm;
  #closed = false;

  private constructor(system: NativeKvm) {
    this.#native = system;
  }

  /** @throws KernelError with the remedy in its message */
  static open(path = '/dev/kvm'): Kvm {
    const system = new (native().Kvm)(path);
    const error = system.error();
    if (error < 0) throw new KernelError(error, 'open', `${path}: ${remedies[error] ?? 'see Linux api.rst of KVM'}`);
    const version = system.apiVersion();
    if (version === API_VERSION) return new Kvm(system);
    system.close();
    if (version < 0) throw new KernelError(version, 'KVM_GET_API_VERSION', `${path} is not KVM`);
    throw new UffdError('ERR_UNSUPPORTED_PLATFORM', `KVM's API is version ${version}, this is for ${API_VERSION}`);
  }

  get closed(): boolean {
    return this.#closed;
  }

  get apiVersion(): number {
    return checked(this.#open().apiVersion(), 'KVM_GET_API_VERSION');
  }

  /** KVM_CHECK_EXTENSION: 0 is no; what else it may be depends on the capability. A VM may know better than this. */
  capability(capability: CapabilityName | number): number {
    return checked(this.#open().capability(capabilityNumber(capability)), 'KVM_CHECK_EXTENSION', String(capability));
  }

  /** The types `createVm` takes; 0 is always one. */
  get vmTypes(): number[] {
    const mask = this.capability('vmTypes') | 1;
    return Array.from({ length: 32 }, (_, type) => type).filter((type) => (mask & (1 << type)) !== 0);
  }

  /** KVM_GET_SUPPORTED_CPUID: what `vcpu.setCpuid` takes. */
  supportedCpuid(): CpuidEntry[] {
    return cpuidEntries(checked(this.#open().supportedCpuid(), 'KVM_GET_SUPPORTED_CPUID') as Uint32Array);
  }

  /** KVM_GET_MSR_INDEX_LIST: the MSRs whose values belong to the state of a vCPU. */
  msrIndices(): number[] {
    return [...(checked(this.#open().msrIndices(), 'KVM_GET_MSR_INDEX_LIST') as Uint32Array)];
  }

  /** KVM_CREATE_VM. Close the VM when it is no longer needed. @throws KernelError EINVAL (a type this KVM does not have) */
  createVm(options: CreateVmOptions = {}): Vm {
    const { type = 0 } = options;
    if (!Number.isSafeInteger(type) || type < 0) {
      throw new UffdError('ERR_OUT_OF_RANGE', `a VM type is a number of vmTypes, not ${type}`);
    }
    const system = this.#open();
    const runSize = checked(system.runSize(), 'KVM_GET_VCPU_MMAP_SIZE');
    const detail = this.vmTypes.includes(type)
      ? `type ${type}`
      : `type ${type}: this KVM has ${this.vmTypes.join(', ')}`;
    const fd = checked(system.createVm(type), 'KVM_CREATE_VM', detail);
    return new Vm(new (native().KvmVm)(fd), runSize);
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true;
    this.#native.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #open(): NativeKvm {
    if (this.#closed) throw new UffdError('ERR_CLOSED', 'KVM is closed');
    return this.#native;
  }
}
