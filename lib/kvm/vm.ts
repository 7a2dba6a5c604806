// A virtual machine: its memory slots, guest_memfds and vCPUs.
import { KernelError, UffdError, checked } from '../errors.js';
import { pageSize } from '../memory/page-size.js';
import type { NativeKvmVm } from '../native/kvm-contract.js';
import { native } from '../native/load.js';
import { Capability, type CapabilityName, capabilityNumber } from './capabilities.js';
import { DirtyPages } from './dirty-pages.js';
import { GuestMemfd, type GuestMemfdFlagName, guestMemfdFlags } from './guest-memfd.js';
import { type MemorySlot, checkSlot, slotDetail, slotFlags } from './memory-slot.js';
import { Vcpu } from './vcpu.js';

const ATTRIBUTE_PRIVATE = 8;
const ManualProtect = { enable: 1, initiallySet: 2 } as const;

/** How vCPUs are stopped. */
export interface StopOptions {
  /**
   * Answers what the vCPUs wait for, with poison: called when no vCPU starts anew, and before any is signalled. Without it
   * a vCPU that waits for a page nobody brings cannot be stopped.
   */
  readonly poison?: () => Promise<void> | void;
  /** For the vCPUs to stand, in milliseconds. Default 2,000. */
  readonly deadlineMs?: number;
}

/** A VM. Closing it closes its vCPUs; the memory of its slots stays mapped until the last of them is gone. */
export class Vm implements AsyncDisposable {
  readonly #native: NativeKvmVm;
  readonly #runSize: number;
  readonly #vcpus = new Set<Vcpu>();
  readonly #slots = new Map<number, MemorySlot>();
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(vm: NativeKvmVm, runSize: number) {
    this.#native = vm;
    this.#runSize = runSize;
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  get vcpus(): readonly Vcpu[] {
    return [...this.#vcpus];
  }

  get slots(): readonly MemorySlot[] {
    return [...this.#slots.values()];
  }

  /** KVM_CHECK_EXTENSION of this VM, whose type may change the answer. */
  capability(capability: CapabilityName | number): number {
    return checked(this.#open().capability(capabilityNumber(capability)), 'KVM_CHECK_EXTENSION', String(capability));
  }

  /** KVM_CREATE_VCPU: a vCPU with a thread of its own. @throws KernelError EEXIST (the id is taken), EINVAL (too large) */
  createVcpu(id: number): Vcpu {
    if (!Number.isSafeInteger(id) || id < 0) throw new UffdError('ERR_OUT_OF_RANGE', `no vCPU can be number ${id}`);
    const vcpu = new (native().KvmVcpu)(this.#open(), id, this.#runSize);
    checked(vcpu.error(), 'KVM_CREATE_VCPU', `vCPU ${id}`);
    const created = new Vcpu(vcpu, id, this);
    this.#vcpus.add(created);
    return created;
  }

  /** KVM_CREATE_GUEST_MEMFD (6.8; the flags 6.18). Close-on-exec. */
  createGuestMemfd(options: {
    readonly sizeBytes: number;
    readonly flags?: readonly GuestMemfdFlagName[];
  }): GuestMemfd {
    const { sizeBytes, flags = [] } = options;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % pageSize() !== 0) {
      throw new UffdError('ERR_OUT_OF_RANGE', `a guest_memfd has whole pages of ${pageSize()} bytes, not ${sizeBytes}`);
    }
    const vm = this.#open();
    if (this.capability('guestMemfd') === 0) {
      throw new KernelError(
        -25,
        'KVM_CREATE_GUEST_MEMFD',
        'this KVM has no guest_memfd: Linux 6.8 or later, for this VM type',
      );
    }
    const offered = flags.length > 0 ? this.capability('guestMemfdFlags') : 0;
    const mask = guestMemfdFlags(flags);
    const missing =
      (mask & ~offered) !== 0 ? 'this VM has not all of these flags: Linux 6.18, and its type' : undefined;
    const fd = checked(vm.createGuestMemfd(sizeBytes, mask), 'KVM_CREATE_GUEST_MEMFD', missing ?? flags.join(', '));
    return GuestMemfd.adopt(fd, sizeBytes, flags);
  }

  /**
   * KVM_SET_USER_MEMORY_REGION, or its second version for a guest_memfd: a new slot, or new flags or place of one. No vCPU
   * may run: the kernel waits for those that are inside an access.
   * @throws UffdError ERR_OUT_OF_RANGE, ERR_VCPU_RUNNING, KernelError EEXIST (overlaps another slot), EINVAL
   */
  setMemory(slot: MemorySlot): void {
    const vm = this.#standing();
    checkSlot(slot, this.#slots.get(slot.slot));
    const { guestMemfd, mapping, mappingOffset = 0 } = slot;
    checked(
      vm.setMemory(
        slot.slot,
        slotFlags(slot),
        slot.address,
        slot.lengthBytes,
        mapping?.handle,
        mappingOffset,
        guestMemfd?.file.fd ?? -1,
        guestMemfd?.offset ?? 0,
      ),
      guestMemfd === undefined ? 'KVM_SET_USER_MEMORY_REGION' : 'KVM_SET_USER_MEMORY_REGION2',
      slotDetail(slot),
    );
    this.#slots.set(slot.slot, slot);
  }

  /** Takes a slot away. No vCPU may run. */
  removeMemory(slot: number): void {
    const vm = this.#standing();
    const old = this.#slots.get(slot);
    if (old === undefined) throw new UffdError('ERR_OUT_OF_RANGE', `there is no slot ${slot}`);
    checked(vm.setMemory(slot, 0, old.address, 0, undefined, 0, -1, 0), 'KVM_SET_USER_MEMORY_REGION', `slot ${slot}`);
    this.#slots.delete(slot);
  }

  /** The memory slot that a guest physical address lies in, and the page of it. */
  slotAt(address: number): { slot: number; page: number } | undefined {
    for (const { slot, address: start, lengthBytes, mapping } of this.#slots.values()) {
      if (address < start || address >= start + lengthBytes) continue;
      return { slot, page: Math.floor((address - start) / (mapping?.pageSize ?? pageSize())) };
    }
    return undefined;
  }

  /**
   * KVM_SET_MEMORY_ATTRIBUTES (6.8): makes a range of guest memory private to the guest, or shared again. The content does
   * not move: after a memory fault exit, convert, and let the guest fill it.
   * @throws KernelError ENOTTY, EINVAL where the VM type has no private memory
   */
  setPrivate(address: number, lengthBytes: number, isPrivate: boolean): void {
    const attributes = isPrivate ? ATTRIBUTE_PRIVATE : 0;
    const detail = 'needs a VM type with private memory: see kvm.vmTypes';
    checked(this.#standing().setAttributes(address, lengthBytes, attributes), 'KVM_SET_MEMORY_ATTRIBUTES', detail);
  }

  /**
   * Reading the dirty log no longer clears it; `clearDirtyLog` does, for as many pages at a time as wanted (5.1).
   * `initiallySet`: pages count as dirty from the start (5.7), so that they need not be write-protected all at once.
   */
  protectDirtyLogManually(options: { readonly initiallySet?: boolean } = {}): void {
    const flags = ManualProtect.enable | (options.initiallySet === true ? ManualProtect.initiallySet : 0);
    checked(
      this.#open().enableCapability(Capability.manualDirtyLogProtect, flags),
      'KVM_ENABLE_CAP',
      'dirty log protect',
    );
  }

  /** KVM_GET_DIRTY_LOG: the pages of a slot with `logDirty` that were written. */
  dirtyLog(slot: number): DirtyPages {
    const dirty = new DirtyPages(0, this.#slotPages(slot));
    checked(this.#open().dirtyLog(slot, dirty.bitmap), 'KVM_GET_DIRTY_LOG', `slot ${slot}: needs logDirty`);
    return dirty;
  }

  /** KVM_CLEAR_DIRTY_LOG of pages that a `dirtyLog` has shown; `first` and, but for the last, `pages` are multiples of 64. */
  clearDirtyLog(slot: number, dirty: DirtyPages, first = 0, pages = dirty.pages - first): void {
    const part = dirty.part(first, pages);
    const detail = `${pages} pages of slot ${slot} from ${first}`;
    checked(this.#open().clearDirtyLog(slot, first, pages, part.bitmap), 'KVM_CLEAR_DIRTY_LOG', detail);
  }

  /**
   * Makes all vCPUs stand: no new runs, then `poison`, then a signal, then waiting.
   * @throws UffdError ERR_VCPU_STUCK with the vCPUs that still run
   */
  async stop(options: StopOptions = {}): Promise<void> {
    const { poison, deadlineMs = 2000 } = options;
    const running = this.vcpus.filter((vcpu) => vcpu.running);
    for (const vcpu of running) vcpu.interrupt({ signal: false });
    let cause: unknown;
    try {
      await poison?.();
    } catch (error) {
      // Those that only run can be stopped all the same.
      cause = error;
    }
    const stopped = await Promise.all(running.map((vcpu) => vcpu.stop(deadlineMs)));
    const stuck = running.filter((_, index) => stopped[index] !== true).map(({ id }) => id);
    if (stuck.length === 0) return;
    const message = `vCPU ${stuck.join(', ')} still waits in a page fault after ${deadlineMs} ms`;
    throw new UffdError('ERR_VCPU_STUCK', message, cause === undefined ? undefined : { cause });
  }

  /**
   * Idempotent. Closes the vCPUs, then the VM. Close the userfaultfd of the memory after it, never before: pages that are
   * missing would read as zeroes.
   * @throws UffdError ERR_VCPU_STUCK
   */
  close(deadlineMs?: number): Promise<void> {
    return (this.#closing ??= this.#close(deadlineMs));
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(deadlineMs: number | undefined): Promise<void> {
    const results = await Promise.allSettled(this.vcpus.map((vcpu) => vcpu.close(deadlineMs)));
    this.#native.close();
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  #slotPages(slot: number): number {
    const found = this.#slots.get(slot);
    if (found === undefined) throw new UffdError('ERR_OUT_OF_RANGE', `there is no slot ${slot}`);
    return found.lengthBytes / pageSize();
  }

  #standing(): NativeKvmVm {
    const vm = this.#open();
    const running = this.vcpus.filter((vcpu) => vcpu.running);
    if (running.length === 0) return vm;
    throw new UffdError('ERR_VCPU_RUNNING', `vCPU ${running.map(({ id }) => id).join(', ')} runs: stop it first`);
  }

  #open(): NativeKvmVm {
    if (this.#closing !== undefined) throw new UffdError('ERR_CLOSED', 'the VM is closed');
    return this.#native;
  }
}
