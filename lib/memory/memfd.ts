// An anonymous file in memory: what shared guest or process memory is made of.
import { UffdError, checked } from '../errors.js';
import type { NativeMemfd } from '../native/contract.js';
import { native } from '../native/load.js';
import type { MemoryKind } from './kinds/kind.js';
import { kindOfMemfd } from './kinds/kinds.js';
import { secretmem } from './kinds/unserved.js';
import type { MappableMemory } from './map-options.js';
import { pageSize, roundUpToPages } from './page-size.js';

/** memfd_create(2) flags. */
const MFD = { cloexec: 1, allowSealing: 2, hugetlb: 4, noexecSeal: 8, exec: 16 } as const;
const ENXIO = -6;
const HUGE_SHIFT = 26;

/** Seals by name (fcntl(2), "File Sealing"); futureWrite since 5.1, exec since 6.3. */
export const Seal = { seal: 1, shrink: 2, grow: 4, write: 8, futureWrite: 16, exec: 32 } as const;
/** Names of file seals. */
export type SealName = keyof typeof Seal;

/** Page sizes hugetlb memory can have on some machine; which of them this one has, the kernel says (ENODEV). */
export type HugePageSize = '64K' | '512K' | '1M' | '2M' | '8M' | '16M' | '32M' | '256M' | '512M' | '1G' | '2G' | '16G';

const hugePageBytes: Record<HugePageSize, number> = {
  '64K': 2 ** 16,
  '512K': 2 ** 19,
  '1M': 2 ** 20,
  '2M': 2 ** 21,
  '8M': 2 ** 23,
  '16M': 2 ** 24,
  '32M': 2 ** 25,
  '256M': 2 ** 28,
  '512M': 2 ** 29,
  '1G': 2 ** 30,
  '2G': 2 ** 31,
  '16G': 2 ** 34,
};

/** What is asked of memfd_create(2). */
export interface MemfdOptions {
  /** Bytes; rounded up to whole pages of the memory's own page size. */
  readonly sizeBytes: number;
  /** Shown in /proc/PID/maps as `/memfd:NAME`; at most 249 bytes. Default `userfaultfd`. */
  readonly name?: string;
  /** Huge pages of this size (Linux 4.14); default none. */
  readonly hugetlb?: HugePageSize;
  /** Whether seals can be added later. Default true. */
  readonly sealable?: boolean;
  /** Not executable, and sealed to stay so (MFD_NOEXEC_SEAL, Linux 6.3). Default false. */
  readonly noexec?: boolean;
  /** Executable whatever the sysctl vm.memfd_noexec says (MFD_EXEC, Linux 6.3). Default false. */
  readonly exec?: boolean;
}

/** A range of a memfd that is no hole. */
export interface Extent {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** A memfd (memfd_create(2), Linux 3.17). Close-on-exec. */
export class Memfd implements MappableMemory, Disposable {
  readonly #native: NativeMemfd;
  readonly #secret: boolean;
  #closed = false;
  /** Bytes of one page of its memory. */
  readonly pageSize: number;

  private constructor(descriptor: NativeMemfd, secret: boolean) {
    this.#native = descriptor;
    this.#secret = secret;
    this.pageSize = this.#status()[2];
  }

  /**
   * memfd_create(2) (Linux 3.17).
   * @throws KernelError EINVAL (name too long, `exec` and `noexec` at once, unknown flag: older kernel), ENODEV (no such
   *   huge page size here), EACCES (the sysctl vm.memfd_noexec forbids executable ones), UffdError ERR_OUT_OF_RANGE
   */
  static create(options: MemfdOptions): Memfd {
    const { sizeBytes, name = 'userfaultfd', hugetlb, sealable = true, noexec = false, exec = false } = options;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
      throw new UffdError('ERR_OUT_OF_RANGE', `sizeBytes must be a whole number of bytes, not ${sizeBytes}`);
    }
    let flags = MFD.cloexec | (sealable ? MFD.allowSealing : 0) | (noexec ? MFD.noexecSeal : 0) | (exec ? MFD.exec : 0);
    if (hugetlb !== undefined) {
      const bytes = hugePageBytes[hugetlb] as number | undefined;
      if (bytes === undefined) throw new UffdError('ERR_INVALID_ARGUMENT', `unknown huge page size ${hugetlb}`);
      flags = (flags | MFD.hugetlb) + Math.log2(bytes) * 2 ** HUGE_SHIFT;
    }
    const fd = checked(native().Memfd.create(name, flags), 'memfd_create', hugetlb && `${hugetlb} pages`);
    const memfd = Memfd.adopt(fd);
    checked(memfd.#native.setSize(roundUpToPages(sizeBytes, memfd.pageSize)), 'ftruncate');
    return memfd;
  }

  /**
   * Memory that the kernel itself does not map (memfd_secret(2), Linux 5.14). Cannot be read or written by descriptor,
   * nor served by a userfaultfd.
   * @throws KernelError ENOSYS (older kernel, or booted with secretmem.enable=0), EAGAIN or ENOMEM at RLIMIT_MEMLOCK
   */
  static createSecret(options: { readonly sizeBytes: number }): Memfd {
    const fd = checked(
      native().Memfd.createSecret(),
      'memfd_secret',
      'needs secretmem.enable=1 on the kernel command line',
    );
    const memfd = new Memfd(new (native().Memfd)(fd), true);
    checked(memfd.#native.setSize(roundUpToPages(options.sizeBytes)), 'ftruncate');
    return memfd;
  }

  /** Takes over a descriptor somebody else made. */
  static adopt(fd: number): Memfd {
    return new Memfd(new (native().Memfd)(fd), false);
  }

  /** The descriptor's number; stays owned by this object. */
  get fd(): number {
    return this.#open().fd();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes. */
  get sizeBytes(): number {
    return this.#status()[0];
  }

  /** Bytes that have memory behind them: what is not a hole. */
  get allocatedBytes(): number {
    return this.#status()[1];
  }

  /** What a mapping of it can be registered for and answered with. */
  kindOfMapping(shared: boolean): MemoryKind {
    return this.#secret ? secretmem : kindOfMemfd(shared, this.pageSize, pageSize());
  }

  /**
   * The ranges that have bytes, in order (lseek(2), SEEK_DATA and SEEK_HOLE); what was only allocated counts as a hole.
   * Not for huge pages, whose holes the kernel does not tell.
   */
  *extents(): Generator<Extent, void, undefined> {
    for (let from = 0; ;) {
      const data = this.#open().seek(from, true);
      if (data === ENXIO) return;
      const hole = checked(this.#open().seek(checked(data, 'lseek', 'SEEK_DATA'), false), 'lseek', 'SEEK_HOLE');
      yield { offset: data, lengthBytes: hole - data };
      from = hole;
    }
  }

  /**
   * ftruncate(2): grows with zeroes, or cuts off; of huge pages, whole ones.
   * @throws KernelError EPERM when sealed against it, EINVAL (a part of a huge page)
   */
  resize(sizeBytes: number): void {
    checked(this.#open().setSize(sizeBytes), 'ftruncate');
  }

  /**
   * F_ADD_SEALS (Linux 3.17; hugetlb 4.16): forbids what the names say, for good.
   * @throws KernelError EPERM when sealed against seals, EBUSY for `write` while a writable shared mapping exists, EINVAL
   *   (a seal this kernel does not know)
   */
  addSeals(...seals: SealName[]): void {
    let mask = 0;
    for (const seal of seals) mask |= Seal[seal];
    checked(this.#open().addSeals(mask), 'F_ADD_SEALS', seals.join(', '));
  }

  /** F_GET_SEALS: the seals it has now. */
  seals(): Set<SealName> {
    const mask = checked(this.#open().getSeals(), 'F_GET_SEALS');
    return new Set((Object.keys(Seal) as SealName[]).filter((name) => (mask & Seal[name]) !== 0));
  }

  /**
   * fallocate(2) with FALLOC_FL_PUNCH_HOLE (Linux 3.5; hugetlb 4.3): frees the whole pages of a range of bytes, which read
   * as zeroes afterwards. Tells no userfaultfd (no REMOVE event).
   * @throws KernelError EPERM when sealed against writes
   */
  punchHole(offset: number, lengthBytes: number): void {
    checked(this.#open().punchHole(offset, lengthBytes), 'fallocate', 'FALLOC_FL_PUNCH_HOLE');
  }

  /**
   * fallocate(2): gives memory to a range of bytes. Its pages are zero and count as present: a touch is a minor fault.
   * @throws KernelError ENOSPC (no memory, or no huge page)
   */
  allocate(offset: number, lengthBytes: number): void {
    checked(this.#open().allocate(offset, lengthBytes), 'fallocate');
  }

  /**
   * pwrite(2): fills pages without a fault. Returns the bytes written.
   * @throws KernelError EPERM when sealed against writes, EINVAL (hugetlb, memfd_secret: write through a mapping)
   */
  write(bytes: Uint8Array, offset: number): number {
    return checked(this.#open().write(bytes, offset), 'pwrite');
  }

  /**
   * pwrite(2) straight from a mapping of a file: one copy less than reading it first. Returns the bytes written.
   * @param file.offset bytes, a multiple of the page size
   * @throws KernelError EFAULT when the file ends before the range does
   */
  writeFromFile(file: { fd: number; offset: number }, lengthBytes: number, offset: number): number {
    return checked(this.#open().writeFromFile(file.fd, file.offset, lengthBytes, offset), 'pwrite');
  }

  /** Idempotent. Mappings of the memory live on. */
  close(): void {
    this.#closed = true;
    this.#native.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #status(): [number, number, number] {
    return checked(this.#open().status(), 'fstat') as [number, number, number];
  }

  #open(): NativeMemfd {
    if (this.#closed) throw new UffdError('ERR_CLOSED', 'the memfd is closed');
    return this.#native;
  }
}
