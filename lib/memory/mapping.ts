// A range of this process's address space: mapped, accessed on native threads, unmapped.
import { constants } from 'node:buffer';
import { addAbortListener } from 'node:events';
import { KernelError, MemoryFaultError, UffdError, checked } from '../errors.js';
import { AccessKind, AccessOutcome, type NativeMapping } from '../native/contract.js';
import { native } from '../native/load.js';
import { anonymous } from './kinds/anonymous.js';
import type { MemoryKind } from './kinds/kind.js';
import { shmem } from './kinds/shmem.js';
import { file } from './kinds/unserved.js';
import { type MemoryPolicy, nodeMask, policyModes, policyOf } from './mempolicy.js';
import { pageSize, roundUpToPages } from './page-size.js';

const PROT = { none: 0, read: 1, write: 2, exec: 4 } as const;
const MAP = { shared: 1, private: 2, anonymous: 0x20, noReserve: 0x4000, populate: 0x8000 } as const;

/** madvise(2) advice; populateRead and populateWrite since 5.14, collapse since 6.1, guards since 6.13. */
export const Advice = {
  normal: 0,
  random: 1,
  sequential: 2,
  willNeed: 3,
  dontNeed: 4,
  free: 8,
  remove: 9,
  hugePage: 14,
  noHugePage: 15,
  cold: 20,
  pageOut: 21,
  populateRead: 22,
  populateWrite: 23,
  collapse: 25,
  guardInstall: 102,
  guardRemove: 103,
} as const;
/** Names of madvise(2) advice. */
export type AdviceName = keyof typeof Advice;
/** What may be done to the pages (mprotect(2)). */
export type Protection = 'none' | 'read' | 'readwrite';

const protections: Record<Protection, number> = { none: PROT.none, read: PROT.read, readwrite: PROT.read | PROT.write };

/** What can be mapped: a `Memfd`, a guest_memfd. */
export interface MappableMemory {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly pageSize: number;
  /** What a mapping of it can be registered for and answered with. */
  kindOfMapping(shared: boolean): MemoryKind;
}

/** What of a memory is mapped, and how (mmap(2)). */
export interface MapOptions {
  /** Default: the whole memfd. */
  readonly lengthBytes?: number;
  /** Offset in the memfd, a multiple of its page size. Default 0. */
  readonly offset?: number;
  /** Shared with everybody who maps the memfd, or a private copy on write. Default true. */
  readonly shared?: boolean;
  /** Default `readwrite`. */
  readonly protection?: Protection;
  /** Fault all pages in now (MAP_POPULATE). Default false. */
  readonly populate?: boolean;
  /** Reserve no huge pages (MAP_NORESERVE): an access without one is SIGBUS. Default false. */
  readonly noReserve?: boolean;
}

/** How an access can be ended. */
export interface AccessOptions {
  /** Calls the thread back from a page that is not served; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What a thread can do to a mapping and wait in until somebody has read a message. */
export type MemoryChange = 'remove' | 'unmap' | 'remap' | 'populate';

/** What a mapping must know of whoever has it registered; the userfaultfd side implements it. */
export interface Registration {
  /** True while an madvise of this thread could wait for an event that only this thread reads. */
  wouldDeadlock(change: MemoryChange): boolean;
}

/**
 * A mapping of this process (mmap(2)). Its bytes are reached by `read`, `write` and `touch`, each on a native thread of
 * its own: a page that waits for a fault handler blocks that thread, never the event loop or the libuv pool.
 */
export class Mapping implements Disposable {
  readonly #native: NativeMapping;
  readonly #registrations = new Set<Registration>();
  #viewed = false;
  #unmapped = false;
  #address: bigint;
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

  /** Maps a memfd. @throws KernelError of mmap(2): ENOMEM when huge pages cannot be reserved */
  static map(memory: MappableMemory, options: MapOptions = {}): Mapping {
    const { offset = 0, shared = true, protection = 'readwrite', populate = false, noReserve = false } = options;
    const lengthBytes = roundUpToPages(options.lengthBytes ?? memory.sizeBytes - offset, memory.pageSize);
    const flags = (shared ? MAP.shared : MAP.private) | (populate ? MAP.populate : 0) | (noReserve ? MAP.noReserve : 0);
    const kind = memory.kindOfMapping(shared);
    return Mapping.#create(memory.fd, offset, lengthBytes, protection, flags, memory.pageSize, kind);
  }

  /**
   * Maps a file of a disk, which a userfaultfd can track the writes of (`wpAsync`) but not serve.
   * @param fd stays the caller's @param options.lengthBytes must be given
   */
  static file(fd: number, options: MapOptions & { readonly lengthBytes: number }): Mapping {
    const { offset = 0, shared = true, protection = 'readwrite', populate = false, lengthBytes } = options;
    const flags = (shared ? MAP.shared : MAP.private) | (populate ? MAP.populate : 0);
    return Mapping.#create(fd, offset, roundUpToPages(lengthBytes), protection, flags, pageSize(), file);
  }

  /** Maps anonymous memory; with `shared` it is shmem, like a memfd nobody has the descriptor of. */
  static anonymous(lengthBytes: number, options: { shared?: boolean; protection?: Protection } = {}): Mapping {
    const { shared = false, protection = 'readwrite' } = options;
    const flags = MAP.anonymous | MAP.noReserve | (shared ? MAP.shared : MAP.private);
    return Mapping.#create(
      -1,
      0,
      roundUpToPages(lengthBytes),
      protection,
      flags,
      pageSize(),
      shared ? shmem : anonymous,
    );
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

  /** Where it begins in this process. */
  get address(): bigint {
    return this.#address;
  }

  get unmapped(): boolean {
    return this.#unmapped;
  }

  /** @internal The native object, for TouchThreads and memory slots. */
  get handle(): NativeMapping {
    return this.#open();
  }

  /** A copy of the bytes, read through this mapping. @throws MemoryFaultError for a poisoned or truncated page */
  async read(offset: number, lengthBytes: number, options?: AccessOptions): Promise<Buffer> {
    if (lengthBytes > constants.MAX_LENGTH) {
      throw new UffdError('ERR_OUT_OF_RANGE', `a Buffer holds at most ${constants.MAX_LENGTH} bytes`);
    }
    return (await this.#access('read', offset, lengthBytes, undefined, options)) ?? Buffer.alloc(0);
  }

  /** Writes through this mapping. @throws MemoryFaultError */
  async write(offset: number, bytes: Uint8Array, options?: AccessOptions): Promise<void> {
    await this.#access('write', offset, bytes.length, bytes, options);
  }

  /** Touches one byte of every page of the range, changing nothing. @throws MemoryFaultError */
  async touch(offset = 0, lengthBytes = this.lengthBytes - offset, options: AccessOptions & { write?: boolean } = {}) {
    const kind = options.write === true ? 'touchWrite' : 'touchRead';
    await this.#access(kind, offset, lengthBytes, undefined, options);
  }

  /** mprotect(2): whole pages; `offset` and `lengthBytes` in bytes. @throws KernelError EACCES (read-only memory) */
  protect(protection: Protection, offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.#check(offset, lengthBytes);
    checked(this.#open().protect(offset, lengthBytes, protections[protection]), 'mprotect');
  }

  /**
   * madvise(2), for a range of bytes; `populateRead` and `populateWrite` are of Linux 5.14, `collapse` 6.1, guards 6.13
   * (memfd 6.15). Advice that drops registered pages waits until the REMOVE event has been read: by another thread or
   * process, else ERR_WOULD_DEADLOCK.
   * @throws KernelError EINVAL (unknown to this kernel, or not for this memory), EFAULT or EHWPOISON (`populate…` of a page
   *   that cannot be had), UffdError ERR_WOULD_DEADLOCK
   */
  advise(advice: AdviceName, offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.#check(offset, lengthBytes);
    if (advice === 'dontNeed' || advice === 'free' || advice === 'remove') this.#refuseDeadlock('remove');
    if (advice === 'populateRead' || advice === 'populateWrite') this.#refuseDeadlock('populate');
    checked(this.#open().advise(offset, lengthBytes, Advice[advice]), 'madvise', advice);
  }

  /** Faults the range in without touching it from user mode (MADV_POPULATE_READ or WRITE, Linux 5.14). Blocks. */
  populate(access: 'read' | 'write', offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.advise(access === 'read' ? 'populateRead' : 'populateWrite', offset, lengthBytes);
  }

  /**
   * Moves the pages to another address (mremap(2)). With the feature eventRemap the registration goes with them and this
   * waits until the event has been read, else the registration is dropped.
   * @throws KernelError EBUSY while an access or a view uses the pages, UffdError ERR_WOULD_DEADLOCK
   */
  relocate(): void {
    this.#refuseDeadlock('remap');
    checked(this.#open().relocate(), 'mremap', 'an access or a view uses the pages, or the kernel cannot move them');
    this.#address = BigInt(this.#native.address());
  }

  /**
   * mbind(2): on which NUMA nodes pages of the range are allocated from now on; pages that are there stay. For shared
   * memory it is a property of the memory. A guest_memfd ignores it before Linux 6.19, without an error.
   * @throws KernelError EINVAL (a node that does not exist, a mode this kernel does not know)
   */
  setPolicy(policy: MemoryPolicy, offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.#check(offset, lengthBytes);
    const mode = policyModes[policy.mode] as number | undefined;
    const nodes = policy.nodes ?? [];
    if (mode === undefined || nodes.some((node) => !Number.isInteger(node) || node < 0 || node > 63)) {
      throw new UffdError('ERR_INVALID_ARGUMENT', `unknown policy ${policy.mode}, or a node that is not 0 to 63`);
    }
    const detail = `${policy.mode} on nodes ${nodes.join(', ')}`;
    checked(this.#open().setPolicy(offset, lengthBytes, mode, nodeMask(nodes), 0), 'mbind', detail);
  }

  /** get_mempolicy(2) with MPOL_F_ADDR: the policy of one page. */
  policyAt(offset: number): Required<MemoryPolicy> {
    this.#check(offset, 1);
    const [mode, nodes] = checked(this.#open().policy(offset), 'get_mempolicy') as [number, bigint];
    return policyOf(mode, nodes);
  }

  /** mincore(2): for each base page of the range, whether it is in memory (for a memfd: in its page cache). */
  mincore(offset = 0, lengthBytes = this.lengthBytes - offset): boolean[] {
    this.#check(offset, lengthBytes);
    const pages = new Uint8Array(Math.ceil(lengthBytes / pageSize()));
    checked(this.#open().mincore(offset, lengthBytes, pages), 'mincore');
    return Array.from(pages, (page) => (page & 1) !== 0);
  }

  /**
   * An ArrayBuffer over the pages themselves, at most 4 GiB on Node 20. Only of a mapping that is not registered: map
   * the memory a second time for it. The pages stay mapped until the buffer is collected.
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

  /** Idempotent. Running accesses and views keep the pages mapped until they are done. */
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
    const { signal } = options;
    signal?.throwIfAborted();
    const mapping = this.#open();
    const page = this.pageSize;
    const base = Number(this.address);
    return new Promise((resolve, reject) => {
      let listener: Disposable | undefined;
      const started = mapping.access(
        AccessKind[kind],
        offset,
        lengthBytes,
        page,
        bytes,
        (outcome, number, siCode, at, read) => {
          listener?.[Symbol.dispose]();
          if (outcome === AccessOutcome.done) resolve(read);
          else if (outcome === AccessOutcome.cancelled) reject(signal?.reason as Error);
          else {
            const page0 = Math.floor((at - base) / page);
            reject(new MemoryFaultError(number === 7 ? 'SIGBUS' : 'SIGSEGV', siCode, page0));
          }
        },
      );
      if (typeof started === 'number') {
        reject(new KernelError(started, 'pthread_create', 'too many threads: see ulimit -u and the pids cgroup'));
      } else if (signal !== undefined) {
        listener = addAbortListener(signal, started);
      }
    });
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
