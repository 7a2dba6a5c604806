// The resources of one probe: made through it, given back in reverse when the probe has ended, however it has.
import { KernelError } from '../errors.js';
import type { MapOptions } from '../memory/map-options.js';
import { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import { pageSize } from '../memory/page-size.js';
import { type FeatureName, featureMask } from '../userfaultfd/features.js';
import { OtherThread } from './other-thread.js';
import { type CallArgument, type Kernel, outcomeName } from './kernel.js';
import { openAny } from './openings.js';
import { type Blocker, NotAsked, NotThere } from './probe.js';
import { type Range, Subject } from './subject.js';

/** Memory for a probe: a mapping, its memfd, and how to look at the pages past the userfaultfd. */
export interface SharedMemory {
  readonly memfd: Memfd;
  readonly mapping: Mapping;
}

export const HUGE_2M = 2 ** 21;
const MFD_CLOEXEC = 1;
const MFD_HUGETLB = 4;
const MFD_HUGE_SHIFT = 26;

/** UFFDIO_API says EPERM to nothing else. */
const forkEventsBlocker: Blocker = {
  blocker: 'capability',
  remedy: 'eventFork needs CAP_SYS_PTRACE in the initial user namespace, whatever the route',
};

export class Scene implements Disposable {
  readonly kernel: Kernel;
  readonly patience: number;
  readonly page = pageSize();
  readonly #ended = new AbortController();
  readonly #undo: (() => void)[] = [];
  readonly #subjects: Subject[] = [];
  readonly #children = new Set<number>();

  /** @param patience how many times slower than usual this machine is, for everything that is waited for */
  constructor(kernel: Kernel, patience = 1) {
    this.kernel = kernel;
    this.patience = patience;
  }

  /** Aborted when the probe has ended: for accesses that may wait for ever. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** Runs when the probe has ended, the last given first. */
  defer(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** A userfaultfd with these features. @throws NotThere when the kernel lacks one */
  userfaultfd(features: readonly FeatureName[] = []): Subject {
    const subject = this.subject(openAny(this.kernel).fd);
    const api = subject.handshake(featureMask(features));
    if (typeof api !== 'number') return subject;
    if (outcomeName(api) === 'EPERM') throw NotAsked.blocked(forkEventsBlocker, { seen: 'EPERM' });
    throw new NotThere({ seen: outcomeName(api) }, `UFFDIO_API with ${features.join(', ')}`);
  }

  /** A descriptor as a subject, handshake not done; closed at the end. */
  subject(fd: number): Subject {
    if (fd < 0) throw new NotThere({ seen: outcomeName(fd) }, 'userfaultfd');
    const subject = new Subject(this.kernel.userfaultfd(fd), this.patience);
    this.#subjects.push(subject);
    return subject;
  }

  /** A system call that gives a descriptor, closed at the end; a negative errno stays one. */
  descriptor(fd: number): number {
    if (fd >= 0) this.defer(() => void this.kernel.systemCall('close', fd));
    return fd;
  }

  anonymous(pages = 4, options?: Parameters<typeof Mapping.anonymous>[1]): Mapping {
    return this.#owned(Mapping.anonymous(pages * this.page, options));
  }

  memfd(pages = 4): Memfd {
    const memfd = Memfd.create({ name: 'uffd-probe', sizeBytes: pages * this.page });
    this.defer(() => {
      memfd.close();
    });
    return memfd;
  }

  map(memory: Parameters<typeof Mapping.map>[0], options?: MapOptions): Mapping {
    return this.#owned(Mapping.map(memory, options));
  }

  mapFile(fd: number, options: Parameters<typeof Mapping.file>[1]): Mapping {
    return this.#owned(Mapping.file(fd, options));
  }

  shared(pages = 4, options?: MapOptions): SharedMemory {
    const memfd = this.memfd(pages);
    return { memfd, mapping: this.map(memfd, options) };
  }

  /** A huge page, mapped without reserving any. @throws NotThere when there are none of that size */
  hugetlb(pageBytes = HUGE_2M, options?: MapOptions): SharedMemory {
    const flags = MFD_CLOEXEC + MFD_HUGETLB + Math.log2(pageBytes) * 2 ** MFD_HUGE_SHIFT;
    const fd = this.call('memfd_create', Buffer.from('uffd-probe\0'), flags);
    if (fd < 0) throw new NotThere({ seen: outcomeName(fd) }, `huge pages of ${pageBytes} bytes`);
    const memfd = Memfd.adopt(fd);
    this.defer(() => {
      memfd.close();
    });
    memfd.resize(pageBytes);
    return { memfd, mapping: this.map(memfd, { noReserve: true, ...options }) };
  }

  /**
   * Anonymous memory without an object, for calls of another thread that move or unmap it. `gone()`: no longer ours to
   * unmap.
   */
  range(pages: number): Range & { gone: () => void } {
    const [PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS] = [3, 0x22];
    const lengthBytes = pages * this.page;
    const address = this.call('mmap', 0, lengthBytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
    if (address < 0) throw new KernelError(address, 'mmap');
    let ours = true;
    this.defer(() => {
      if (ours) this.call('munmap', address, lengthBytes);
    });
    const gone = () => {
      ours = false;
    };
    return { address: BigInt(address), lengthBytes, pageSize: this.page, gone };
  }

  /** Touches a byte of a page on a native thread: what became of it, in one word. */
  async access(mapping: Mapping, page: number, write = false): Promise<string> {
    try {
      const at = page * mapping.pageSize;
      if (write) await mapping.write(at, Uint8Array.of(0x77), { signal: this.signal });
      else return `read ${(await mapping.read(at, 1, { signal: this.signal }))[0]!}`;
      return 'written';
    } catch (error) {
      if (error instanceof Error && 'signal' in error && 'siCode' in error) {
        return `${String(error.signal)}, si_code ${String(error.siCode)}`;
      }
      return 'called back';
    }
  }

  /** A system call on another thread, for what may wait. */
  elsewhere(name: string, ...args: readonly number[]): Promise<number> {
    return OtherThread.shared().call({ name, args });
  }

  /** A child that reads a byte, or waits; killed and reaped at the end. */
  async fork(touch: number): Promise<number> {
    const pid = await OtherThread.shared().call({ fork: touch });
    if (pid > 0) {
      this.#children.add(pid);
      this.defer(() => {
        this.kill(pid);
      });
    }
    return pid;
  }

  /** Kills and reaps a child of `fork`, once: afterwards its number may be somebody else's. */
  kill(pid: number): void {
    if (!this.#children.delete(pid)) return;
    process.kill(pid, 'SIGKILL');
    this.call('wait4', pid, new Int32Array(1), 0, 0);
  }

  /** What the promise gives, or undefined when it takes longer: on a usual machine, and in proportion on a slow one. */
  async within<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, milliseconds * this.patience, undefined);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  call(name: string, ...args: readonly CallArgument[]): number {
    return this.kernel.systemCall(name, ...args);
  }

  [Symbol.dispose](): void {
    this.#ended.abort(new Error('the probe has ended'));
    // First of all: with eventUnmap an munmap below would wait for its own reader.
    for (const subject of this.#subjects) subject.close();
    for (const undo of this.#undo.reverse()) undo();
  }

  #owned(mapping: Mapping): Mapping {
    this.defer(() => {
      mapping.unmap();
    });
    return mapping;
  }
}
