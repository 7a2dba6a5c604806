// A range of this process's address space: mapped, accessed on native threads, unmapped.
import { constants } from 'node:buffer';
import { KernelError, UffdError, checked } from '../errors.js';
import type { AccessKind, NativeMapping } from '../native/contract.js';
import { native } from '../native/load.js';
import { type AccessOptions, access } from './access.js';
import { Advice, type AdviceName } from './advice.js';
import { anonymous } from './kinds/anonymous.js';
import type { MemoryKind } from './kinds/kind.js';
import { shmem } from './kinds/shmem.js';
import { file } from './kinds/unserved.js';
import { type MapOptions, type MappableMemory, type Protection, mapFlags, protections } from './map-options.js';
import { type MemoryPolicy, policyArguments, policyOf } from './mempolicy.js';
import { pageSize, roundUpToPages } from './page-size.js';
import type { MemoryChange, Registration } from './registration.js';

/**
 * A mapping of this process (mmap(2)). Its bytes are reached by `read`, `write` and `touch`, each on a native thread of
 * its own: a page that waits for a fault handler blocks that thread, never the event loop or the libuv pool. Offsets and
 * lengths are bytes from the start of the mapping; a range that is not inside it is ERR_OUT_OF_RANGE, and anything of a
 * mapping that was unmapped ERR_CLOSED.
 */
export class Mapping implements Disposable {
  readonly #native: NativeMapping;
  readonly #registrations = new Set<Registration>();
  #viewed = false;
  #unmapped = false;
  #address: bigint;
  /** Bytes, a multiple of `pageSize`. */
  readonly lengthBytes: number;
  /** Bytes of one page: a huge page for hugetlb memory. */
  readonly pageSize: number;
  /** What can be registered and answered there. */
  readonly kind: MemoryKind;

  private constructor(mapping: NativeMapping, lengthBytes: number, page: number, kind: MemoryKind) {
    this.#native = mapping;
    this.#address = BigInt(mapping.address());
    this.lengthBytes = lengthBytes;
    this.pageSize = page;
    this.kind = kind;
  }

  /**
   * mmap(2) of a memfd or a guest_memfd.
   * @throws KernelError ENOMEM (huge pages cannot be reserved, or too many mappings: vm.max_map_count), EINVAL (`offset`
   *   is no multiple of the page size), EPERM (writable and shared, of a memfd sealed against writing), EACCES (the same of
   *   a read-only descriptor), ENODEV (a guest_memfd made without `mmap`), UffdError ERR_OUT_OF_RANGE (no bytes at all)
   */
  static map(memory: MappableMemory, options: MapOptions = {}): Mapping {
    const { offset = 0, shared = true, protection = 'readwrite' } = options;
    const lengthBytes = roundUpToPages(options.lengthBytes ?? memory.sizeBytes - offset, memory.pageSize);
    const kind = memory.kindOfMapping(shared);
    return Mapping.#create(memory.fd, offset, lengthBytes, protection, mapFlags(options), memory.pageSize, kind);
  }

  /**
   * mmap(2) of a file of a disk, which a userfaultfd can track the writes of (`wpAsync`, Linux 6.7) but not serve. An
   * access beyond the end of the file is SIGBUS: ERR_MEMORY_FAULT.
   * @param fd stays the caller's
   * @param options.lengthBytes must be given; rounded up to whole pages
   * @throws KernelError EACCES (the descriptor is not open for that), ENODEV (what cannot be mapped), ENOMEM, EINVAL
   */
  static file(fd: number, options: MapOptions & { readonly lengthBytes: number }): Mapping {
    const { offset = 0, protection = 'readwrite', shared, populate, lengthBytes } = options;
    const flags = mapFlags({ ...(shared !== undefined && { shared }), ...(populate !== undefined && { populate }) });
    return Mapping.#create(fd, offset, roundUpToPages(lengthBytes), protection, flags, pageSize(), file);
  }

  /**
   * mmap(2) of anonymous memory (MAP_ANONYMOUS, MAP_NORESERVE), zero everywhere.
   * @param lengthBytes rounded up to whole pages
   * @param options.shared default false; when true it is shmem, like a memfd nobody has the descriptor of
   * @param options.protection default `readwrite`
   * @throws KernelError ENOMEM (no room in the address space, or RLIMIT_AS), UffdError ERR_OUT_OF_RANGE
   */
  static anonymous(lengthBytes: number, options: { shared?: boolean; protection?: Protection } = {}): Mapping {
    const { shared = false, protection = 'readwrite' } = options;
    const flags = mapFlags({ shared, noReserve: true }, true);
    const kind = shared ? shmem : anonymous;
    return Mapping.#create(-1, 0, roundUpToPages(lengthBytes), protection, flags, pageSize(), kind);
  }

  static #create(
    fd: number,
    offset: number,
    length: number,
    protection: Protection,
    flags: number,
    page: number,
    kind: MemoryKind,
  ) {
    if (!Number.isSafeInteger(length) || length <= 0 || !Number.isSafeInteger(offset) || offset < 0) {
      throw new UffdError('ERR_OUT_OF_RANGE', `cannot map ${length} bytes at offset ${offset}`);
    }
    const mapping = new (native().Mapping)(fd, offset, length, protections[protection], flags);
    checked(mapping.error(), 'mmap', `${length} bytes`);
    return new Mapping(mapping, length, page, kind);
  }

  /** Where it begins in this process; `relocate` changes it. */
  get address(): bigint {
    return this.#address;
  }

  /** Whether `unmap` was called. */
  get unmapped(): boolean {
    return this.#unmapped;
  }

  /** @internal The native object, for TouchThreads and memory slots. */
  get handle(): NativeMapping {
    return this.#open();
  }

  /**
   * A copy of the bytes, loaded through this mapping by a thread (no system call): a page that is absent is faulted in.
   * @throws MemoryFaultError for the first page that cannot be had: SIGBUS (poisoned, beyond the end of the memory, no huge
   *   page) or SIGSEGV (guarded, or protected), KernelError EAGAIN (pthread_create(3): too many threads), ENOMEM (none for
   *   the bytes), UffdError ERR_OUT_OF_RANGE; the reason of `signal`
   */
  async read(offset: number, lengthBytes: number, options?: AccessOptions): Promise<Buffer> {
    if (lengthBytes > constants.MAX_LENGTH) {
      throw new UffdError('ERR_OUT_OF_RANGE', `a Buffer holds at most ${constants.MAX_LENGTH} bytes`);
    }
    return (await this.#access('read', offset, lengthBytes, undefined, options)) ?? Buffer.alloc(0);
  }

  /**
   * Stores bytes through this mapping, taken when it is called. What comes before a page that cannot be had is written.
   * @throws the same as `read`
   */
  async write(offset: number, bytes: Uint8Array, options?: AccessOptions): Promise<void> {
    await this.#access('write', offset, bytes.length, bytes, options);
  }

  /**
   * Touches one byte of every page that the range has a part of, changing nothing: loads it, or stores what is there.
   * @param offset default 0
   * @param lengthBytes default: to the end of the mapping
   * @param options.write store, which makes pages of their own of private ones. Default false
   * @throws the same as `read`
   */
  async touch(offset = 0, lengthBytes = this.lengthBytes - offset, options: AccessOptions & { write?: boolean } = {}) {
    const kind = options.write === true ? 'touchWrite' : 'touchRead';
    await this.#access(kind, offset, lengthBytes, undefined, options);
  }

  /**
   * mprotect(2): what may be done to the pages from now on. Default: all of them.
   * @param offset bytes, a multiple of the page size
   * @param lengthBytes the rest of a page is protected with it
   * @throws KernelError EACCES (to write to a memfd or file that can only be read), EINVAL (`offset`), ENOMEM (too many
   *   mappings: vm.max_map_count)
   */
  protect(protection: Protection, offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.#check(offset, lengthBytes);
    checked(this.#open().protect(offset, lengthBytes, protections[protection]), 'mprotect');
  }

  /**
   * madvise(2): `AdviceName` has the names and versions. Default: the whole mapping. Advice that drops registered pages
   * (`dontNeed`, `free`, `remove`) waits until the REMOVE event has been read: by another thread or process, else
   * ERR_WOULD_DEADLOCK. `cold` and `pageOut` say nothing of what they could not do; `pageOut` of private memory and memfds
   * takes swap, and passes over what has not been written back to its file.
   * @param offset bytes, a multiple of the page size
   * @param lengthBytes rounded up to whole pages
   * @throws KernelError EINVAL (unknown to this kernel, or not for this memory), EFAULT or EHWPOISON (`populate…` of a page
   *   that cannot be had), EAGAIN or ENOMEM (`collapse`: no huge page now), UffdError ERR_WOULD_DEADLOCK
   */
  advise(advice: AdviceName, offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.#check(offset, lengthBytes);
    if (advice === 'dontNeed' || advice === 'free' || advice === 'remove') this.#refuseDeadlock('remove');
    if (advice === 'populateRead' || advice === 'populateWrite') this.#refuseDeadlock('populate');
    checked(this.#open().advise(offset, lengthBytes, Advice[advice]), 'madvise', advice);
  }

  /**
   * madvise(2) with MADV_POPULATE_READ or MADV_POPULATE_WRITE (Linux 5.14): faults the range in, by default all of it,
   * without touching it from user mode. Blocks this thread.
   * @throws KernelError EFAULT (a page that cannot be had, or memory of a userfaultfd that is `userModeOnly`), EHWPOISON,
   *   EINVAL (before 5.14), UffdError ERR_WOULD_DEADLOCK
   */
  populate(access: 'read' | 'write', offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.advise(access === 'read' ? 'populateRead' : 'populateWrite', offset, lengthBytes);
  }

  /**
   * mremap(2) with MREMAP_MAYMOVE and MREMAP_FIXED: moves all of the pages to another address. With the feature eventRemap
   * the registration goes with them and this waits until the event has been read, else the registration is dropped.
   * @throws KernelError EBUSY while an access or a view uses the pages, ENOMEM (too many mappings: vm.max_map_count),
   *   UffdError ERR_WOULD_DEADLOCK
   */
  relocate(): void {
    this.#refuseDeadlock('remap');
    checked(this.#open().relocate(), 'mremap', 'an access or a view uses the pages, or the kernel cannot move them');
    this.#address = BigInt(this.#native.address());
  }

  /**
   * mbind(2) (Linux 2.6.7, CONFIG_NUMA): on which NUMA nodes pages of the range, by default all, are allocated from now on;
   * pages that are there stay. For shared memory it is a property of the memory. A guest_memfd ignores it before Linux
   * 6.19, without an error.
   * @param offset bytes, a multiple of the page size
   * @param lengthBytes rounded up to whole pages
   * @throws KernelError EINVAL (a node that does not exist, a mode this kernel does not know, nodes for a mode that takes
   *   none), ENOSYS (without CONFIG_NUMA), UffdError ERR_INVALID_ARGUMENT (a name or node that none has)
   */
  setPolicy(policy: MemoryPolicy, offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.#check(offset, lengthBytes);
    const { mode, mask, text } = policyArguments(policy);
    checked(this.#open().setPolicy(offset, lengthBytes, mode, mask, 0), 'mbind', text);
  }

  /**
   * get_mempolicy(2) with MPOL_F_ADDR (Linux 2.6.7, CONFIG_NUMA): the policy of the page at an offset in bytes.
   * @throws KernelError ENOSYS (without CONFIG_NUMA), UffdError ERR_OUT_OF_RANGE
   */
  policyAt(offset: number): Required<MemoryPolicy> {
    this.#check(offset, 1);
    const [mode, nodes] = checked(this.#open().policy(offset), 'get_mempolicy') as [number, bigint];
    return policyOf(mode, nodes);
  }

  /**
   * mincore(2): for each base page of the range, by default of all, whether it is in memory (of a memfd or file: in its page
   * cache). A moment's answer. Of a file that this process neither owns nor may write to, all pages are (Linux 5.2).
   * @param offset bytes, a multiple of the base page size
   * @param lengthBytes the rest of a page counts as one
   * @throws KernelError EINVAL (`offset`), UffdError ERR_OUT_OF_RANGE
   */
  mincore(offset = 0, lengthBytes = this.lengthBytes - offset): boolean[] {
    this.#check(offset, lengthBytes);
    const pages = new Uint8Array(Math.ceil(lengthBytes / pageSize()));
    checked(this.#open().mincore(offset, lengthBytes, pages), 'mincore');
    return Array.from(pages, (page) => (page & 1) !== 0);
  }

  /**
   * An ArrayBuffer over the pages themselves (no system call), by default over all; at most 4 GiB on Node 20. Only of a
   * mapping that is not registered: map the memory a second time for it. The pages stay mapped until the buffer is
   * collected. A page that cannot be had is SIGBUS or SIGSEGV for the whole process.
   * @throws UffdError ERR_MAPPING_REGISTERED, ERR_OUT_OF_RANGE, KernelError ENOTSUP (an engine without such buffers)
   */
  view(offset = 0, lengthBytes = this.lengthBytes - offset): ArrayBuffer {
    this.#check(offset, lengthBytes);
    if (this.#registrations.size > 0) {
      throw new UffdError('ERR_MAPPING_REGISTERED', 'map the memory a second time and take the view of that mapping');
    }
    if (lengthBytes > constants.MAX_LENGTH) {
      throw new UffdError('ERR_OUT_OF_RANGE', `an ArrayBuffer has at most ${constants.MAX_LENGTH} bytes: take several`);
    }
    const view = this.#open().view(offset, lengthBytes);
    if (view === undefined) throw new KernelError(-95, 'napi_create_external_arraybuffer', 'not in this engine');
    this.#viewed = true;
    return view;
  }

  /** Empties every ArrayBuffer given by `view`, so that they no longer keep the pages mapped. */
  detachViews(): void {
    this.#native.detachViews();
    this.#viewed = false;
  }

  /**
   * munmap(2) of the whole mapping. Idempotent. Running accesses and views keep the pages mapped until they are done.
   * @throws UffdError ERR_WOULD_DEADLOCK (registered, with the feature eventUnmap, and read by this thread)
   */
  unmap(): void {
    if (!this.#unmapped) this.#refuseDeadlock('unmap');
    this.#unmapped = true;
    this.#native.unmap();
  }

  /** The same as `unmap`. */
  [Symbol.dispose](): void {
    this.unmap();
  }

  /** @internal */
  addRegistration(registration: Registration): void {
    if (this.#viewed) {
      throw new UffdError('ERR_MAPPING_VIEWED', 'a view of the mapping exists; map the memory a second time for it');
    }
    this.#registrations.add(registration);
    this.#native.setRegistered();
  }

  /** @internal */
  removeRegistration(registration: Registration): void {
    this.#registrations.delete(registration);
  }

  async #access(
    kind: keyof typeof AccessKind,
    offset: number,
    lengthBytes: number,
    bytes: Uint8Array | undefined,
    options: AccessOptions = {},
  ): Promise<Buffer | undefined> {
    this.#check(offset, lengthBytes);
    options.signal?.throwIfAborted();
    return access(this.#open(), { kind, offset, lengthBytes, pageSize: this.pageSize, bytes }, options);
  }

  #refuseDeadlock(change: MemoryChange): void {
    for (const registration of this.#registrations) {
      if (registration.wouldDeadlock(change)) {
        throw new UffdError(
          'ERR_WOULD_DEADLOCK',
          'the userfaultfd that reports this is read by this very thread; unregister the range or read it in a worker',
        );
      }
    }
  }

  #check(offset: number, lengthBytes: number): void {
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(lengthBytes) && offset >= 0 && lengthBytes >= 0;
    if (!valid || offset + lengthBytes > this.lengthBytes) {
      throw new UffdError(
        'ERR_OUT_OF_RANGE',
        `${lengthBytes} bytes at ${offset} are not inside the mapping of ${this.lengthBytes} bytes`,
      );
    }
  }

  #open(): NativeMapping {
    if (this.#unmapped) throw new UffdError('ERR_CLOSED', 'the memory is unmapped');
    return this.#native;
  }
}
