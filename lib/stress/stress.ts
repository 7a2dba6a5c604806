// The bounce test: two areas of memory, the pages of one filled into the other by racing handlers while threads verify
// and change them; then every page is verified, and the areas change places.
import { addAbortListener } from 'node:events';
import type { RegisterModeName } from '../memory/kinds/kind.js';
import type { FeatureName } from '../userfaultfd/features.js';
import { Userfaultfd } from '../userfaultfd/userfaultfd.js';
import { Areas } from './areas.js';
import { type BounceLoad, type BounceResult, runBounceThreads } from './bounce-threads.js';
import { Handlers } from './handlers.js';
import type { BounceOrders, HandlerCounts, Mistake } from './messages.js';
import type { StressMemory, StressReport } from './report.js';

export interface StressOptions {
  readonly memory: StressMemory;
  /** Bytes of each of the two areas, rounded up to whole pages. */
  readonly sizeBytes: number;
  readonly seconds: number;
  /** Threads that fault, and threads that answer. */
  readonly threads: number;
  readonly handlers: number;
  /** Ends the run early, with a report of what was done. */
  readonly signal?: AbortSignal;
  /** Called after every bounce. */
  readonly onBounce?: (soFar: StressReport) => void;
  /** How long threads may wait for one page. Default 10 s. */
  readonly stallMs?: number;
  /** @internal For tests of this test. */
  readonly mistake?: Mistake;
}

const STALL_MS = 10_000;
/** Properties of a bounce, from the bits of its number. */
const Bounce = { random: 1, racing: 2, polling: 4 } as const;
const UNEXPECTED_KEPT = 10;

type Writable<T> = { -readonly [name in keyof T]: T[name] };

/** @throws KernelError of mmap(2) or of the userfaultfd, UffdError ERR_WORKER_FAILED */
export async function stress(options: StressOptions): Promise<StressReport> {
  const run = new StressRun(options);
  try {
    return await run.run();
  } finally {
    await run[Symbol.asyncDispose]();
  }
}

class StressRun implements AsyncDisposable {
  readonly #options: StressOptions;
  readonly #areas: Areas;
  readonly #userfaultfd: Userfaultfd;
  readonly #modes: readonly RegisterModeName[];
  readonly #changes: Uint32Array;
  readonly #sequential: Uint32Array;
  readonly #started = performance.now();
  readonly #finish = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #listener: Disposable | undefined;
  readonly #report: Writable<StressReport>;
  #handlers: Handlers | undefined;

  constructor(options: StressOptions) {
    const { memory, sizeBytes, threads, handlers, seconds, signal } = options;
    this.#options = options;
    this.#areas = new Areas(memory, sizeBytes);
    const { mapping, pages } = this.#areas.target;
    try {
      this.#userfaultfd = Userfaultfd.open({ userModeOnly: true });
    } catch (error) {
      this.#areas[Symbol.dispose]();
      throw error;
    }
    this.#modes = modesFor(memory, this.#userfaultfd.availableFeatures, this.#areas.target.cached);
    this.#changes = new Uint32Array(new SharedArrayBuffer(pages * 4));
    this.#sequential = Uint32Array.from({ length: pages }, (_, page) => page);
    const finish = () => {
      this.#finish.abort();
    };
    this.#timer = setTimeout(finish, seconds * 1000);
    this.#listener = signal && addAbortListener(signal, finish);
    this.#report = {
      schema: 1,
      memory,
      pages,
      pageSize: mapping.pageSize,
      modes: this.#modes,
      threads,
      handlers,
      seconds: 0,
      bounces: { all: 0, random: 0, racing: 0, polling: 0, blocking: 0 },
      changed: 0,
      verified: 0,
      missing: 0,
      minor: 0,
      wp: 0,
      already: { provoked: 0, raced: 0 },
      wrongPages: 0,
      unexpected: [],
    };
  }

  async run(): Promise<StressReport> {
    this.#handlers = await Handlers.start(this.#options.handlers, this.#userfaultfd.fd);
    await this.#threads('fill', this.#areas.source.mapping);
    for (let number = 0; number === 0 || !this.#finish.signal.aborted; number++) {
      await this.#bounce(this.#handlers, number);
      this.#report.seconds = (performance.now() - this.#started) / 1000;
      this.#options.onBounce?.(this.#report);
      if (this.#report.stalled !== undefined) break;
    }
    return this.#report;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#listener?.[Symbol.dispose]();
    await this.#handlers?.[Symbol.asyncDispose]();
    this.#userfaultfd.close();
    this.#areas[Symbol.dispose]();
  }

  async #bounce(handlers: Handlers, number: number): Promise<void> {
    const { source, target } = this.#areas;
    const has = (property: number) => (number & property) !== 0;
    const order = has(Bounce.random) ? shuffled(this.#sequential) : this.#sequential;
    target.drop();
    for (const page of shuffled(this.#sequential).subarray(0, target.cached ? target.pages / 2 : 0)) {
      target.cache(page, source);
    }
    this.#userfaultfd.register(target.mapping, this.#modes);
    handlers.begin(this.#orders(has(Bounce.polling) ? 'polling' : 'blocking'));
    const stalled = await this.#faulting(order, has(Bounce.racing));
    this.#count(await handlers.end());
    this.#userfaultfd.unregister(target.mapping);
    if (stalled) return;
    if (this.#options.mistake === 'lost-page') target.drop(target.pages - 1);
    // With nobody there to bring a page: one that is not there by now is lost, and read as zeroes.
    await this.#threads('verify', target.mapping);
    const { bounces } = this.#report;
    this.#report.bounces = {
      all: bounces.all + 1,
      random: bounces.random + (has(Bounce.random) ? 1 : 0),
      racing: bounces.racing + (has(Bounce.racing) ? 1 : 0),
      polling: bounces.polling + (has(Bounce.polling) ? 1 : 0),
      blocking: bounces.blocking + (has(Bounce.polling) ? 0 : 1),
    };
    this.#areas.swap();
  }

  /** While handlers are at work. True when the threads had to be called back. */
  async #faulting(order: Uint32Array, racing: boolean): Promise<boolean> {
    const { target } = this.#areas;
    await this.#threads('bounce', target.mapping, { order, racing, finish: this.#finish.signal });
    const dropped = this.#options.mistake === 'dropped-page';
    if (dropped) target.drop(0, Math.ceil(target.pages / 2));
    // Ended early the threads have not been everywhere: what they have not touched is brought now.
    if ((dropped || this.#finish.signal.aborted) && this.#report.stalled === undefined)
      await this.#threads('verify', target.mapping);
    return this.#report.stalled !== undefined;
  }

  async #threads(work: BounceLoad['work'], mapping: BounceLoad['mapping'], more: Partial<BounceLoad> = {}) {
    const { threads, stallMs = STALL_MS } = this.#options;
    const result = await runBounceThreads({
      work,
      mapping,
      order: this.#sequential,
      changes: this.#changes,
      threads,
      stallMs,
      cancel: this.#handlers!.failed,
      ...more,
    });
    this.#add(work, result);
  }

  #add(work: BounceLoad['work'], { visits, wrongPages, firstWrong, stalled }: BounceResult): void {
    const report = this.#report;
    if (work === 'bounce') report.changed += visits;
    if (work === 'verify') report.verified += visits;
    report.wrongPages += wrongPages;
    if (firstWrong !== undefined) report.firstWrong ??= `bounce ${report.bounces.all}, ${firstWrong}`;
    if (stalled !== undefined) report.stalled ??= stalled;
  }

  #orders(reader: BounceOrders['reader']): Omit<BounceOrders, 'firstAhead'> {
    const { source, target } = this.#areas;
    const wp = this.#modes.includes('wp');
    return {
      reader,
      target: Number(target.mapping.address),
      source: Number(source.mapping.address),
      pages: target.pages,
      pageSize: target.mapping.pageSize,
      // wpUnpopulated is as old as UFFDIO_CONTINUE_MODE_WP, which has no feature bit.
      protect: { copy: wp, continue: wp && this.#userfaultfd.availableFeatures.has('wpUnpopulated') },
      cached: target.cached,
      mistake: this.#options.mistake,
    };
  }

  #count(all: readonly HandlerCounts[]): void {
    const report = this.#report;
    for (const { missing, minor, wp, provoked, raced, unexpected } of all) {
      report.missing += missing;
      report.minor += minor;
      report.wp += wp;
      report.already = { provoked: report.already.provoked + provoked, raced: report.already.raced + raced };
      report.unexpected = [...report.unexpected, ...unexpected].slice(0, UNEXPECTED_KEPT);
    }
  }
}

function modesFor(memory: StressMemory, features: ReadonlySet<FeatureName>, cached: boolean): RegisterModeName[] {
  const wp = memory === 'anon' ? features.has('pagefaultFlagWp') : features.has('wpHugetlbfsShmem');
  const minor = memory === 'hugetlb' ? features.has('minorHugetlbfs') : features.has('minorShmem');
  return ['missing', ...(wp ? (['wp'] as const) : []), ...(cached && minor ? (['minor'] as const) : [])];
}

function shuffled(pages: Uint32Array): Uint32Array {
  const order = pages.slice();
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
