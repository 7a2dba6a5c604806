// One userfaultfd: registering ranges, reading faults as an async iterator, answering them.
import { UffdError, checked } from '../errors.js';
import type { Mapping, MemoryChange } from '../memory/mapping.js';
import { pageSize } from '../memory/page-size.js';
import type { NativeUserfaultfd } from '../native/contract.js';
import { native } from '../native/load.js';
import type { FaultEvent } from './events.js';
import { type FeatureName, type RegisterModeName, answerNames, registerMask } from './features.js';
import { FaultReader } from './fault-reader.js';
import { type OpenRoute, handshake, openUserfaultfd } from './open.js';
import { type Outcome, outcomeOf } from './outcome.js';
import { type PageRange, Region } from './region.js';

export interface UserfaultfdOptions {
  /** Features the object needs; ERR_FEATURE_MISSING when the kernel lacks one. Default none. */
  readonly features?: readonly FeatureName[];
  /** Only faults of user mode are reported, which every user may do (Linux 5.11). Default false. */
  readonly userModeOnly?: boolean;
}

export interface AnswerOptions {
  /** Leave the waiting threads asleep; `wake` them later. Default false. */
  readonly dontWake?: boolean;
  /** Map the page write-protected (COPY 5.7, CONTINUE 6.4). Default false. */
  readonly writeProtect?: boolean;
}

export interface ReadOptions {
  /** Ends the iteration; unread faults stay queued in the kernel. */
  readonly signal?: AbortSignal;
}

/** A range of this process that is not a `Mapping` of this library. */
export interface AddressRange {
  readonly start: bigint;
  readonly lengthBytes: number;
  /** Bytes of its pages. Default: the base page size. */
  readonly pageSize?: number;
}

/**
 * A userfaultfd (userfaultfd(2), Linux 4.3), non-blocking and close-on-exec, with its handshake done.
 *
 * Reading it on the event loop is for embedding, tests and learning; `FaultServer` is for load.
 */
export class Userfaultfd implements AsyncIterable<FaultEvent>, Disposable {
  readonly #native: NativeUserfaultfd;
  readonly #reader: FaultReader;
  readonly #regions = new Map<Mapping | AddressRange, Region>();
  #closed = false;
  readonly features: ReadonlySet<FeatureName>;
  /** Everything the kernel offers, asked for or not. */
  readonly availableFeatures: ReadonlySet<FeatureName>;
  readonly route: OpenRoute;

  private constructor(
    descriptor: NativeUserfaultfd,
    route: OpenRoute,
    asked: FeatureName[],
    available: Set<FeatureName>,
  ) {
    this.#native = descriptor;
    this.route = route;
    this.features = new Set(asked);
    this.availableFeatures = available;
    this.#reader = new FaultReader(descriptor, (address) => this.#regionAt(address));
  }

  /** @throws KernelError with the remedy when it is not permitted, UffdError ERR_FEATURE_MISSING */
  static open(options: UserfaultfdOptions = {}): Userfaultfd {
    const { features = [], userModeOnly = false } = options;
    const { fd, route } = openUserfaultfd(userModeOnly);
    const descriptor = new (native().Userfaultfd)(fd);
    try {
      const { available } = handshake(descriptor, features, userModeOnly);
      return new Userfaultfd(descriptor, route, [...features], available);
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /** The descriptor's number; stays owned by this object. */
  get fd(): number {
    return this.#open().fd();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * UFFDIO_REGISTER. `minor` alone fills holes with zeroes silently: ask for `missing` too to see both.
   * @throws KernelError EINVAL (memory that cannot be registered so), EBUSY (another userfaultfd has it), EPERM (a
   *   shared mapping that can never be written)
   */
  register(range: Mapping | AddressRange, modes: readonly RegisterModeName[]): Region {
    const descriptor = this.#open();
    const mode = registerMask(modes);
    const mapping = 'address' in range ? range : undefined;
    const start = 'address' in range ? range.address : range.start;
    mapping?.addRegistration(this);
    try {
      const mask = checked(
        descriptor.register(Number(start), range.lengthBytes, mode),
        'UFFDIO_REGISTER',
        modes.join('|'),
      );
      const answers = answerNames(mask as bigint);
      const region = new Region(start, range.lengthBytes, range.pageSize ?? pageSize(), mapping, answers);
      this.#forgetUnmapped(region);
      this.#regions.delete(range);
      this.#regions.set(range, region);
      return region;
    } catch (error) {
      if (!this.#regions.has(range)) mapping?.removeRegistration(this);
      throw error;
    }
  }

  /** UFFDIO_UNREGISTER, then WAKE: by itself the kernel leaves those asleep that wait for a MINOR fault. */
  unregister(range: Mapping | AddressRange): void {
    const start = Number('address' in range ? range.address : range.start);
    const descriptor = this.#open();
    checked(descriptor.unregister(start, range.lengthBytes), 'UFFDIO_UNREGISTER');
    checked(descriptor.wake(start, range.lengthBytes), 'UFFDIO_WAKE');
    this.#regions.delete(range);
    if ('address' in range) range.removeRegistration(this);
  }

  /** UFFDIO_COPY: fills absent pages with a copy of `bytes`, whole pages of them. */
  copy(at: PageRange, bytes: Uint8Array, options: AnswerOptions = {}): Outcome {
    const pages = bytes.length / at.region.pageSize;
    const start = at.region.addressOf(at.page, pages);
    const result = this.#open().copy(start, bytes, modeOf(options));
    return outcomeOf(result, bytes.length, 'UFFDIO_COPY', describe(at));
  }

  /** UFFDIO_CONTINUE: maps pages that are in the page cache already (shmem 5.14, hugetlb 5.13). */
  continue(at: PageRange, options: AnswerOptions = {}): Outcome {
    return this.#answer(at, 'UFFDIO_CONTINUE', (start, length) =>
      this.#open().continue(start, length, modeOf(options)),
    );
  }

  /** UFFDIO_ZEROPAGE: maps zeroes. Not for hugetlb (EINVAL): copy zeroes there. */
  zeropage(at: PageRange, options: Pick<AnswerOptions, 'dontWake'> = {}): Outcome {
    return this.#answer(at, 'UFFDIO_ZEROPAGE', (start, length) =>
      this.#open().zeropage(start, length, modeOf(options)),
    );
  }

  /** UFFDIO_POISON (Linux 6.6): whoever touches the page gets SIGBUS. */
  poison(at: PageRange, options: Pick<AnswerOptions, 'dontWake'> = {}): Outcome {
    return this.#answer(at, 'UFFDIO_POISON', (start, length) => this.#open().poison(start, length, modeOf(options)));
  }

  /** UFFDIO_WAKE: those who wait in the range look again; with nothing mapped they fault again. */
  wake(at: PageRange): void {
    const length = (at.pages ?? 1) * at.region.pageSize;
    checked(this.#open().wake(at.region.addressOf(at.page, at.pages ?? 1), length), 'UFFDIO_WAKE');
  }

  /**
   * One event after the other. One consumer at a time; ends when the object is closed or the signal aborts. Events that
   * were not consumed are the first of the next iteration.
   */
  async *events(options: ReadOptions = {}): AsyncGenerator<FaultEvent, void, undefined> {
    for await (const batch of this.batches(options)) {
      try {
        while (!this.#closed && options.signal?.aborted !== true) {
          const event = batch.shift();
          if (event === undefined) break;
          yield event;
        }
      } finally {
        this.#reader.putBack(batch);
      }
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<FaultEvent, void, undefined> {
    return this.events();
  }

  /** All events that were waiting, a batch at a time (at most 64): one read(2) and one promise each. */
  batches(options: ReadOptions = {}): AsyncGenerator<FaultEvent[], void, undefined> {
    this.#open();
    return this.#reader.batches(options.signal);
  }

  /** Is the address space behind it still there? False once the process that registered memory has exited. */
  get alive(): boolean {
    return checked(this.#open().alive(), 'UFFDIO_WRITEPROTECT') === 1;
  }

  /**
   * Idempotent. Closing the last descriptor drops all registrations and wakes all waiters: they read zeroes. Keep one
   * open for as long as the memory is in use and not complete.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reader.close();
    this.#native.close();
    for (const range of this.#regions.keys()) if ('address' in range) range.removeRegistration(this);
    this.#regions.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal See Registration. */
  wouldDeadlock(change: MemoryChange): boolean {
    if (!this.#reader.active) return false;
    return change === 'populate' || this.features.has(change === 'remove' ? 'eventRemove' : 'eventUnmap');
  }

  #answer(at: PageRange, ioctl: string, call: (start: number, length: number) => number): Outcome {
    const pages = at.pages ?? 1;
    const length = pages * at.region.pageSize;
    return outcomeOf(call(at.region.addressOf(at.page, pages), length), length, ioctl, describe(at));
  }

  #regionAt(address: bigint): Region | undefined {
    let newest: Region | undefined;
    for (const region of this.#regions.values()) if (region.contains(address)) newest = region;
    return newest;
  }

  // Unmapping takes no region away, because accesses that still run hold the pages; a new one in its place does.
  #forgetUnmapped(region: Region): void {
    const end = region.start + BigInt(region.lengthBytes);
    for (const [range, old] of this.#regions) {
      const overlaps = old.start < end && region.start < old.start + BigInt(old.lengthBytes);
      if (overlaps && old.mapping?.unmapped === true) this.#regions.delete(range);
    }
  }

  #open(): NativeUserfaultfd {
    if (this.#closed) throw new UffdError('ERR_CLOSED', 'the userfaultfd is closed');
    return this.#native;
  }
}

function modeOf(options: AnswerOptions): number {
  return (options.dontWake === true ? 1 : 0) | (options.writeProtect === true ? 2 : 0);
}

function describe(at: PageRange): string {
  return `page ${at.page}${at.pages === undefined ? '' : ` and ${at.pages - 1} after it`}`;
}
