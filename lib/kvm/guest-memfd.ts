// guest_memfd: memory that belongs to a VM (KVM_CREATE_GUEST_MEMFD, Linux 6.8).
import { KernelError, UffdError, checked } from '../errors.js';
import { guestMemfd } from '../memory/kinds/guest-memfd.js';
import type { MemoryKind } from '../memory/kinds/kind.js';
import type { MemoryPolicy } from '../memory/mempolicy.js';
import type { MapOptions, MappableMemory } from '../memory/map-options.js';
import { Mapping } from '../memory/mapping.js';
import { pageSize } from '../memory/page-size.js';
import type { NativeMemfd } from '../native/contract.js';
import { native } from '../native/load.js';

/**
 * - `mmap`: it can be mapped, and a slot of it takes all of the guest's memory from it (6.18).
 * - `initShared`: its pages are shared from the start, so that a mapping can be touched (6.18).
 */
export const GuestMemfdFlag = { mmap: 1, initShared: 2 } as const;
/** Names of KVM_CREATE_GUEST_MEMFD flags. */
export type GuestMemfdFlagName = keyof typeof GuestMemfdFlag;

export function guestMemfdFlags(names: readonly GuestMemfdFlagName[]): number {
  return names.reduce((mask, name) => mask | GuestMemfdFlag[name], 0);
}

/** Who registers memory: a `Userfaultfd`. */
interface Registrar<Modes, Region> {
  register(mapping: Mapping, modes: Modes): Region;
}

/** A guest_memfd. Its size is fixed; its pages are neither swapped nor moved. It keeps its VM alive. */
export class GuestMemfd implements MappableMemory, Disposable {
  readonly #native: NativeMemfd;
  #closed = false;
  readonly sizeBytes: number;
  readonly flags: ReadonlySet<GuestMemfdFlagName>;

  private constructor(descriptor: NativeMemfd, sizeBytes: number, flags: readonly GuestMemfdFlagName[]) {
    this.#native = descriptor;
    this.sizeBytes = sizeBytes;
    this.flags = new Set(flags);
  }

  /** @internal Takes over a descriptor. */
  static adopt(fd: number, sizeBytes: number, flags: readonly GuestMemfdFlagName[]): GuestMemfd {
    return new GuestMemfd(new (native().Memfd)(fd), sizeBytes, flags);
  }

  /** The descriptor's number; stays owned by this object. */
  get fd(): number {
    return this.#open().fd();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** What a mapping of it can be registered for and answered with. */
  kindOfMapping(): MemoryKind {
    return guestMemfd;
  }

  get pageSize(): number {
    return pageSize();
  }

  /** Bytes that have memory behind them. */
  get allocatedBytes(): number {
    return (checked(this.#open().status(), 'fstat') as [number, number, number])[1];
  }

  /**
   * mmap(2), shared: the only way to map it.
   * @throws KernelError ENODEV without the flag `mmap`. Without `initShared` it can be mapped, but each touch is SIGBUS
   */
  map(options: Omit<MapOptions, 'shared'> = {}): Mapping {
    try {
      return Mapping.map(this, options);
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'ENODEV') throw error;
      throw new KernelError(error.errno, 'mmap', 'this guest_memfd was created without the flag mmap (Linux 6.18)');
    }
  }

  /** Gives memory to a range: zeroes. @throws KernelError EINVAL for what is no whole pages, or past the end */
  allocate(offset: number, lengthBytes: number): void {
    checked(this.#open().allocate(offset, lengthBytes), 'fallocate', 'whole pages inside the guest_memfd');
  }

  /** Frees the pages of a range; they read as zeroes afterwards. */
  punchHole(offset: number, lengthBytes: number): void {
    checked(this.#open().punchHole(offset, lengthBytes), 'fallocate', 'FALLOC_FL_PUNCH_HOLE: whole pages');
  }

  /**
   * Registers a mapping of it with a userfaultfd, and says why the kernel will not: mainline up to 7.3 does not, and no
   * feature bit says when one does.
   * @throws UffdError ERR_GUEST_MEMFD_REGISTRATION
   */
  register<Modes, Region>(userfaultfd: Registrar<Modes, Region>, mapping: Mapping, modes: Modes): Region {
    try {
      return userfaultfd.register(mapping, modes);
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'EINVAL') throw error;
      const why = this.flags.has('initShared')
        ? 'this kernel cannot register guest_memfd with userfaultfd (mainline up to 7.3 cannot): ' +
          'use a memfd for memory that is served'
        : 'a guest_memfd without the flag initShared cannot be registered with userfaultfd';
      throw new UffdError('ERR_GUEST_MEMFD_REGISTRATION', why, { cause: error });
    }
  }

  /**
   * mbind(2) through a mapping: on which NUMA nodes pages of the range are allocated from now on; those that are there
   * stay. Since Linux 6.19 it is a property of the memory.
   * @throws UffdError ERR_GUEST_MEMFD_POLICY before 6.19, where mbind(2) succeeds all the same; KernelError EINVAL, ENODEV
   *   without the flag `mmap`
   */
  setPolicy(policy: MemoryPolicy, offset = 0, lengthBytes = this.sizeBytes - offset): void {
    using one = this.map({ offset, lengthBytes });
    // mbind(2) does nothing where the mapping has the policy already, as a new one has the default.
    if (policy.mode === 'default') one.setPolicy({ mode: 'local' });
    one.setPolicy(policy);
    // What is kept with one mapping only, another one does not know.
    using other = this.map({ offset, lengthBytes });
    if (other.policyAt(0).mode === policy.mode) return;
    const why = 'this kernel takes a policy for guest_memfd, and ignores it: Linux 6.19 or later keeps it';
    throw new UffdError('ERR_GUEST_MEMFD_POLICY', why);
  }

  /**
   * Idempotent. Mappings live on; slots of it do not: the guest's next access of one is a memory fault.
   */
  close(): void {
    this.#closed = true;
    this.#native.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #open(): NativeMemfd {
    if (this.#closed) throw new UffdError('ERR_CLOSED', 'the guest_memfd is closed');
    return this.#native;
  }
}
