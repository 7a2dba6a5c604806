// One userfaultfd: registering ranges, reading faults as an async iterator, answering them.
import { UffdError, checked } from '../errors.js';
import { type MemoryKind, type RegisterModeName, explain } from '../memory/kinds/kind.js';
import type { Mapping } from '../memory/mapping.js';
import { pageSize } from '../memory/page-size.js';
import type { MemoryChange } from '../memory/registration.js';
import type { NativeUserfaultfd } from '../native/contract.js';
import { native } from '../native/load.js';
import {
  type Answer,
  type AnswerOptions,
  type MoveOptions,
  type ProtectOptions,
  outcomeOfRow,
  rowsOf,
  setModeError,
} from './answers.js';
import type { FaultEvent } from './events.js';
import { FaultReader } from './fault-reader.js';
import { readFdinfo } from './fdinfo.js';
import { type FeatureName, answerNames, featureMask, featureNames, registerMask } from './features.js';
import { type OpenRoute, availableFeatures, handshake, openUserfaultfd } from './open.js';
import type { Outcome } from './outcome.js';
import { type PageRange, Region } from './region.js';
import { Regions } from './regions.js';

/** What is asked of userfaultfd(2) and UFFDIO_API. */
export interface UserfaultfdOptions {
  /** Features the object needs; ERR_FEATURE_MISSING when the kernel lacks one. Default none. */
  readonly features?: readonly FeatureName[];
  /** Only faults of user mode are reported, which every user may do (Linux 5.11). Default false. */
  readonly userModeOnly?: boolean;
}

/** How an iteration can be ended. */
export interface ReadOptions {
  /** Ends the iteration, which throws its reason; what was not consumed is the first of the next iteration. */
  readonly signal?: AbortSignal;
}

/** A range of the process behind the userfaultfd that is not a `Mapping` of this library. */
export interface AddressRange {
  readonly start: bigint;
  readonly lengthBytes: number;
  /** Bytes of its pages. Default: the base page size. */
  readonly pageSize?: number;
  /** One of `memoryKinds`, for better messages. */
  readonly kind?: MemoryKind;
}

/** Messages in the kernel: not read yet, and these together with those read whose fault is not resolved. */
export interface QueueStatus {
  readonly pending: number;
  readonly total: number;
}

interface Parts {
  readonly descriptor: NativeUserfaultfd;
  readonly route: OpenRoute;
  readonly features: Iterable<FeatureName>;
  readonly available: ReadonlySet<FeatureName>;
  readonly regions?: Iterable<Region>;
}

/**
 * A userfaultfd (userfaultfd(2), Linux 4.3), non-blocking and close-on-exec, with its handshake done.
 *
 * Reading it on the event loop is for embedding, tests and learning; `FaultServer` is for load.
 */
export class Userfaultfd implements AsyncIterable<FaultEvent>, Disposable {
  readonly #native: NativeUserfaultfd;
  readonly #reader: FaultReader;
  readonly #regions: Regions;
  readonly #mappings = new Set<Mapping>();
  #closed = false;
  readonly features: ReadonlySet<FeatureName>;
  /** Everything the kernel offers, asked for or not. */
  readonly availableFeatures: ReadonlySet<FeatureName>;
  readonly route: OpenRoute;

  private constructor({ descriptor, route, features, available, regions }: Parts) {
    this.#native = descriptor;
    this.route = route;
    this.features = new Set(features);
    this.availableFeatures = available;
    this.#regions = new Regions(regions);
    this.#reader = new FaultReader(descriptor, {
      regionAt: (address) => this.#regions.at(address),
      adoptChild: (fd) => this.#adoptChild(fd),
      seen: (event) => {
        this.#follow(event);
      },
    });
  }

  /** @throws KernelError with the remedy when it is not permitted, UffdError ERR_FEATURE_MISSING */
  static open(options: UserfaultfdOptions = {}): Userfaultfd {
    const { features = [], userModeOnly = false } = options;
    const { fd, route } = openUserfaultfd(userModeOnly);
    const descriptor = new (native().Userfaultfd)(fd);
    try {
      const { available } = handshake(descriptor, features, userModeOnly);
      return new Userfaultfd({ descriptor, route, features, available });
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /**
   * Takes over the descriptor of a userfaultfd that somebody else opened, here or in another process, with what is
   * registered there: its faults are answered in their address space. It must be non-blocking, with its handshake done.
   * @throws UffdError ERR_INVALID_ARGUMENT when it is something else, KernelError when none can be opened here to ask what
   *   the kernel offers (EINVAL before Linux 5.11, EPERM under a seccomp filter); then the descriptor stays the caller's
   */
  static adopt(fd: number, registered: readonly AddressRange[] = []): Userfaultfd {
    const { features, apiDone, nonBlocking } = readFdinfo(fd);
    if (!apiDone) throw new UffdError('ERR_INVALID_ARGUMENT', 'UFFDIO_API has not been done on the userfaultfd');
    if (!nonBlocking)
      throw new UffdError('ERR_INVALID_ARGUMENT', 'the userfaultfd is blocking: open it with O_NONBLOCK');
    // Before the descriptor is taken over: this may fail.
    const { names: available } = availableFeatures();
    const regions = registered.map(
      ({ start, lengthBytes, pageSize: page = pageSize(), kind }) =>
        new Region({ start, lengthBytes, pageSize: page, kind, mapping: undefined, answers: new Set() }),
    );
    return new Userfaultfd({
      descriptor: new (native().Userfaultfd)(fd),
      route: { via: 'received' },
      features: featureNames(features),
      available,
      regions,
    });
  }

  /** The descriptor's number; stays owned by this object. */
  get fd(): number {
    return this.#open().fd();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** What is registered with it, as far as this object has seen; moved, cut and dropped by the events it has read. */
  get regions(): Region[] {
    return [...this.#regions];
  }

  /** How many messages wait in the kernel (/proc/self/fdinfo). */
  get queue(): QueueStatus {
    const { pending, total } = readFdinfo(this.fd);
    return { pending, total };
  }

  /**
   * UFFDIO_REGISTER (Linux 4.3): from now on such faults in the range are reported. `memoryKinds` says since when which
   * memory takes which mode. `minor` alone fills holes with zeroes silently: ask for `missing` too to see both. `rwp`
   * needs the feature `rwp` (Linux 7.3) and excludes `wp`. Whole pages; of huge pages, whole huge pages.
   * @throws KernelError EINVAL (memory that cannot be registered so; the message says what can), EBUSY (another
   *   userfaultfd has it; since 7.3 also: a re-registration that would drop `wp` or `rwp`), EPERM (a shared mapping that
   *   can never be written), ENOMEM (the process is gone, or has too many mappings: vm.max_map_count)
   */
  register(range: Mapping | AddressRange, modes: readonly RegisterModeName[]): Region {
    const descriptor = this.#open();
    const mode = registerMask(modes);
    const mapping = 'address' in range ? range : undefined;
    const start = 'address' in range ? range.address : range.start;
    const { lengthBytes, kind } = range;
    mapping?.addRegistration(this);
    try {
      const what =
        kind === undefined ? modes.join('|') : modes.map((name) => explain(kind, name, kind.registers[name]));
      const mask = checked(
        descriptor.register(Number(start), lengthBytes, mode),
        'UFFDIO_REGISTER',
        typeof what === 'string' ? what : what.join('; '),
      );
      const answers = answerNames(mask as bigint);
      const region = new Region({ start, lengthBytes, pageSize: range.pageSize ?? pageSize(), mapping, kind, answers });
      this.#regions.add(region);
      if (mapping !== undefined) this.#mappings.add(mapping);
      return region;
    } catch (error) {
      if (mapping !== undefined && !this.#mappings.has(mapping)) mapping.removeRegistration(this);
      throw error;
    }
  }

  /**
   * UFFDIO_UNREGISTER (Linux 4.3), then WAKE: by itself the kernel leaves those asleep that wait for a minor or a
   * protection fault. Protection is taken away with it; pages that are absent read as zeroes.
   * @throws KernelError EINVAL (registered with another userfaultfd, or not whole pages), ENOMEM (the process is gone)
   */
  unregister(range: Mapping | AddressRange): void {
    const start = 'address' in range ? range.address : range.start;
    const descriptor = this.#open();
    checked(descriptor.unregister(Number(start), range.lengthBytes), 'UFFDIO_UNREGISTER');
    this.#regions.remove(start, start + BigInt(range.lengthBytes));
    this.#wake(start, range.lengthBytes);
    if ('address' in range) {
      this.#mappings.delete(range);
      range.removeRegistration(this);
    }
  }

  /**
   * UFFDIO_COPY (Linux 4.3; memfd and hugetlb 4.11): fills absent pages with a copy of `bytes`, whole pages of them. Never
   * overwrites (`already`), but takes the place of a marker of protection or poison. In a private mapping of a memfd the
   * page is the mapping's own. Bytes for huge pages should be in memory: else the kernel takes a second huge page for the
   * time of the copy, and is `exhausted` without one.
   * @throws KernelError EINVAL (`writeProtect` where `wp` is not registered), EIO (a page with a hardware error)
   */
  copy(at: PageRange, bytes: Uint8Array, options: AnswerOptions = {}): Outcome {
    return this.#answer({ ...options, answer: 'copy', at, bytes });
  }

  /**
   * UFFDIO_CONTINUE: maps pages that are in the page cache already (hugetlb 5.13, memfd and shared anonymous memory
   * 5.14), whichever mode is registered. `absent` where the page cache has none.
   * @throws UffdError ERR_NOT_FOR_MEMORY (private anonymous memory), KernelError EINVAL (beyond the end of the memory, up
   *   to 6.18; then `absent`. `writeProtect` before 6.4), EIO (a page with a hardware error)
   */
  continue(at: PageRange, options: AnswerOptions = {}): Outcome {
    return this.#answer({ ...options, answer: 'continue', at });
  }

  /**
   * UFFDIO_ZEROPAGE (Linux 4.3; memfd 4.11): fills absent pages with zeroes; private memory maps the one page of zeroes.
   * @throws UffdError ERR_NOT_FOR_MEMORY (hugetlb: copy zeroes there)
   */
  zeropage(at: PageRange, options: Pick<AnswerOptions, 'dontWake'> = {}): Outcome {
    return this.#answer({ ...options, answer: 'zeropage', at });
  }

  /**
   * UFFDIO_POISON (Linux 6.6; all memory that can be registered for faults): whoever touches an absent page gets SIGBUS,
   * the kernel itself EFAULT. `copy` heals.
   * @throws KernelError EINVAL (before 6.6)
   */
  poison(at: PageRange, options: Pick<AnswerOptions, 'dontWake'> = {}): Outcome {
    return this.#answer({ ...options, answer: 'poison', at });
  }

  /**
   * UFFDIO_WRITEPROTECT (anonymous 5.7, shmem and hugetlb 5.19): the next write to a page is a fault of the reason `wp`;
   * with `protect: false` writes go on. Holes of anonymous memory are protected only with the feature `wpUnpopulated`
   * (6.4). `absent` where `wp` is not registered; of a range that fails, a part may have been protected.
   * @throws KernelError EINVAL (a part of a huge page)
   */
  writeProtect(at: PageRange, options: ProtectOptions = {}): Outcome {
    return this.#answer({ ...options, answer: 'writeprotect', at });
  }

  /**
   * UFFDIO_RWPROTECT (Linux 7.3): the next access to a page that is there is a fault of the reason `rwp`, or with the
   * feature `rwpAsync` noted by the kernel alone (`scanPages`, `accessed`). Holes are not protected. `absent` where `rwp`
   * is not registered; done for all of the range or for none.
   * @throws KernelError EINVAL (before 7.3)
   */
  rwProtect(at: PageRange, options: ProtectOptions = {}): Outcome {
    return this.#answer({ ...options, answer: 'rwprotect', at });
  }

  /**
   * UFFDIO_MOVE (Linux 6.8): moves private anonymous pages of this process to absent pages, without a copy; an aligned
   * huge page stays whole. `absent` where the source has a hole, unless that is allowed.
   * @param source address of the first page to move; it need not be registered
   * @throws UffdError ERR_NOT_FOR_MEMORY (all other memory), KernelError EBUSY (pinned or shared after a fork), EINVAL
   *   (mappings that differ, are registered with another userfaultfd, or are another process's)
   */
  move(at: PageRange, source: bigint, options: MoveOptions = {}): Outcome {
    return this.#answer({ ...options, answer: 'move', at, source });
  }

  /** UFFDIO_WAKE (Linux 4.3): those who wait in the range look again; with nothing mapped they fault again. */
  wake(at: PageRange): void {
    this.#answer({ answer: 'wake', at });
  }

  /**
   * Gives a batch of answers in one call, in order, each with its own outcome. An errno that is not an outcome is one here:
   * `failed`, with the error that the method of the answer would throw.
   */
  answer(answers: readonly Answer[]): Outcome[] {
    const rows = rowsOf(answers);
    this.#open().answer(rows);
    return answers.map((answer, index) => outcomeOfRow(answer, rows, index));
  }

  /**
   * UFFDIO_SET_MODE (Linux 7.3): switches `rwpAsync` on and off while memory is registered; on wakes everybody.
   * @throws KernelError EINVAL (before 7.3; a feature that cannot be switched, or is in both lists), ESRCH (the process is
   *   gone)
   */
  setMode({ enable = [], disable = [] }: { enable?: readonly FeatureName[]; disable?: readonly FeatureName[] }): void {
    const error = this.#open().setMode(featureMask(enable), featureMask(disable));
    if (error < 0) throw setModeError(error);
  }

  /**
   * One event after the other. One consumer at a time; ends when the object is closed, and throws when the signal aborts. Events that
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

  /** The same as `events()`. */
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
    for (const mapping of this.#mappings) mapping.removeRegistration(this);
    this.#mappings.clear();
    this.#regions.clear();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** @internal See Registration. */
  wouldDeadlock(change: MemoryChange): boolean {
    if (!this.#reader.active) return false;
    const event = { remove: 'eventRemove', unmap: 'eventUnmap', remap: 'eventRemap', populate: undefined } as const;
    const feature = event[change];
    return feature === undefined || this.features.has(feature);
  }

  #answer(answer: Answer): Outcome {
    const [outcome] = this.answer([answer]);
    if (outcome?.error !== undefined) throw outcome.error;
    return outcome!;
  }

  #wake(start: bigint, lengthBytes: number): void {
    const whole = new Region({
      start,
      lengthBytes,
      pageSize: lengthBytes,
      mapping: undefined,
      kind: undefined,
      answers: new Set(),
    });
    this.wake({ region: whole, page: 0 });
  }

  #adoptChild(fd: number): Userfaultfd {
    const { features, availableFeatures: available } = this;
    const regions = this.regions.map((region) => region.ofChild());
    const descriptor = new (native().Userfaultfd)(fd);
    return new Userfaultfd({ descriptor, route: { via: 'fork' }, features, available, regions });
  }

  #follow(event: FaultEvent): void {
    if (event.type === 'unmap') this.#regions.remove(event.start, event.end);
    if (event.type === 'remap') this.#regions.move(event.from, event.to, event.lengthBytes);
  }

  #open(): NativeUserfaultfd {
    if (this.#closed) throw new UffdError('ERR_CLOSED', 'the userfaultfd is closed');
    return this.#native;
  }
}
