// A range of this process's address space: mapped, accessed on native threads, unmapped.
import { constants } from 'node:buffer';
import { addAbortListener } from 'node:events';
import { KernelError, MemoryFaultError, UffdError, checked } from '../errors.js';
import { AccessKind, AccessOutcome, type NativeMapping } from '../native/contract.js';
import { native } from '../native/load.js';
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
export type AdviceName = keyof typeof Advice;
export type Protection = 'none' | 'read' | 'readwrite';

const protections: Record<Protection, number> = { none: PROT.none, read: PROT.read, readwrite: PROT.read | PROT.write };

/** What can be mapped: a `Memfd`, a `GuestMemfd`. */
export interface MemoryFile {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly pageSize: number;
}

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
}

export interface AccessOptions {
  /** Calls the thread back from a page that is not served; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What a thread can do to a mapping and wait in until somebody has read a message. */
export type MemoryChange = 'remove' | 'unmap' | 'populate';

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
  /** Where it begins in this process. */
  readonly address: bigint;
  readonly lengthBytes: number;
  /** Bytes of one page: a huge page for hugetlb memory. */
  readonly pageSize: number;

  private constructor(mapping: NativeMapping, lengthBytes: number, page: number) {
    this.#native = mapping;
    this.address = BigInt(mapping.address());
    this.lengthBytes = lengthBytes;
    this.pageSize = page;
  }

  /** Maps a memfd. @throws KernelError of mmap(2) */
  static map(memfd: MemoryFile, options: MapOptions = {}): Mapping {
    const { offset = 0, shared = true, protection = 'readwrite', populate = false } = options;
    const lengthBytes = roundUpToPages(options.lengthBytes ?? memfd.sizeBytes - offset, memfd.pageSize);
    const flags = (shared ? MAP.shared : MAP.private) | (populate ? MAP.populate : 0);
    return Mapping.#create(memfd.fd, offset, lengthBytes, protection, flags, memfd.pageSize);
  }

  /** Maps anonymous memory; with `shared` it is shmem, like a memfd nobody has the descriptor of. */
  static anonymous(lengthBytes: number, options: { shared?: boolean; protection?: Protection } = {}): Mapping {
    const { shared = false, protection = 'readwrite' } = options;
    const flags = MAP.anonymous | MAP.noReserve | (shared ? MAP.shared : MAP.private);
    return Mapping.#create(-1, 0, roundUpToPages(lengthBytes), protection, flags, pageSize());
  }

  static #create(fd: number, offset: number, length: number, protection: Protection, flags: number, page: number) {
    if (!Number.isSafeInteger(length) || length <= 0 || !Number.isSafeInteger(offset) || offset < 0) {
      throw new UffdError('ERR_OUT_OF_RANGE', `cannot map ${length} bytes at offset ${offset}`);
    }
    const mapping = new (native().Mapping)(fd, offset, length, protections[protection], flags);
    checked(mapping.error(), 'mmap', `${length} bytes`);
    return new Mapping(mapping, length, page);
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

  /** mprotect(2). */
  protect(protection: Protection, offset = 0, lengthBytes = this.lengthBytes - offset): void {
    this.#check(offset, lengthBytes);
    checked(this.#open().protect(offset, lengthBytes, protections[protection]), 'mprotect');
  }

  /**
   * madvise(2). Advice that drops registered pages waits until the REMOVE event has been read: by another thread or
   * process, else ERR_WOULD_DEADLOCK.
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
