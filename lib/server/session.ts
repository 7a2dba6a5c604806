// One client's memory, as its serving worker sees it: regions, page states, and who is waiting for what.
import type { FillWay, MemoryKind } from '../memory/kinds/kind.js';
import type { Measures } from './measures.js';
import type { MovedStates } from './messages.js';
import { PageRanges } from './page-ranges.js';
import { PageState, PageStates } from './page-states.js';

/** A mapping of the handshake. Pages of all regions of a session are numbered through; `firstPage` is the first. */
export interface ServedRegion {
  readonly index: number;
  readonly start: number;
  readonly end: number;
  /** Offset in the source and in the memory. */
  readonly offset: number;
  readonly firstPage: number;
  readonly pages: number;
}

/** A demand fault that could not be answered at once. */
export interface Waiting {
  /** performance.now() when it came. */
  readonly since: number;
  /** performance.now() at which the policy acts; Infinity once it has and the fault is left to stall. */
  deadline: number;
  reason: string;
  /** Answers that fell short since; Infinity when no further one can help: the page is left to its deadline. */
  attempts: number;
  /** performance.now() before which it is not tried again. */
  notBefore: number;
  /** Why its bytes could not be read. */
  failure: string | undefined;
  /** A message has come since the waiter was last woken; what nobody waits for is forgotten at its deadline. */
  asleep: boolean;
  /** Woken after the last ENOMEM, to find out by itself whether the memory ends before the page. */
  looksAgain: boolean;
  /** Nobody need be waiting: the server must not go before the page has content. */
  owed: boolean;
  /** Looked at again when there is a place for a fetch. */
  queued: boolean;
}

/** Retries of one page at once: more than any race needs, few enough not to spin. Then one at a time, see `Deadlines`. */
export const MAX_ATTEMPTS = 16;
/** Between two reads of one page; a source that knows when it is worth trying again does so in each of them. */
const READ_AGAIN_MS = 250;

export class Session {
  readonly id: number;
  /** In the queue; -1 once it is over here: what is planned for it from then on is given to nobody. */
  slot: number;
  readonly kind: MemoryKind;
  readonly fill: FillWay;
  /** Every page is in the page cache behind a private mapping, and stays there: none can be missing. */
  readonly backed: boolean;
  /** Whether the memory may be written with pwrite(2): sealed against shrinking. */
  readonly writable: boolean;
  readonly pageSize: number;
  readonly regions: readonly ServedRegion[];
  readonly pages: number;
  readonly states: PageStates;
  readonly waiting = new Map<number, Waiting>();
  /** Why nothing more is answered; the policy acts on each fault at its deadline. */
  parked: string | undefined;
  /** Faults at addresses of no region, by address: they can only be left to the policy. */
  readonly strays = new Map<number, Waiting>();
  fetchesUnderWay = 0;
  /** Where the next absent page is looked for while draining. */
  drainCursor = 0;
  /** An answer has found a page that is not registered any more: others may not be either. */
  unmapped = false;
  /** What is brought before anybody asks for it. */
  aheadOf = new PageRanges([]);
  /** Where it is noted how long faults had to wait. */
  measures: Measures | undefined;
  /** Whether what is asked for is recorded. */
  recorded = false;
  /** Completed and unregistered; `left` once no thread of the client can still wait for an event to be read. */
  leaving = false;
  left = false;
  /** Up to which page it was unregistered by itself, since not all of a region could be at once. */
  unregisteredPages = Infinity;
  readonly #attention: Set<Session>;

  /** @param options.attention where a session with faults that wait is noted, so that nobody has to look for them */
  constructor(options: {
    id: number;
    slot: number;
    kind: MemoryKind;
    fill: FillWay;
    backed: boolean;
    writable: boolean;
    pageSize: number;
    regions: readonly { start: number; size: number; offset: number }[];
    attention: Set<Session>;
    moved?: MovedStates | undefined;
  }) {
    this.#attention = options.attention;
    this.id = options.id;
    this.slot = options.slot;
    this.kind = options.kind;
    this.fill = options.fill;
    this.backed = options.backed;
    this.writable = options.writable;
    this.pageSize = options.pageSize;
    let firstPage = 0;
    this.regions = options.regions.map(({ start, size, offset }, index) => {
      const region = { index, start, end: start + size, offset, firstPage, pages: size / this.pageSize };
      firstPage += region.pages;
      return region;
    });
    this.pages = firstPage;
    this.states = new PageStates(firstPage, options.moved?.states);
  }

  /** By `Counter`. */
  get counters(): Float64Array {
    return this.states.counters;
  }

  /** The region of an address, or undefined. */
  regionAt(address: number): ServedRegion | undefined {
    for (const region of this.regions) if (address >= region.start && address < region.end) return region;
    return undefined;
  }

  regionOfPage(page: number): ServedRegion {
    for (const region of this.regions) if (page < region.firstPage + region.pages) return region;
    throw new RangeError(`page ${page} of ${this.pages}`);
  }

  addressOf(region: ServedRegion, page: number): number {
    return region.start + (page - region.firstPage) * this.pageSize;
  }

  /** Offset of a page in the source and in the memory. */
  offsetOf(region: ServedRegion, page: number): number {
    return region.offset + (page - region.firstPage) * this.pageSize;
  }

  /** Notes a demand fault that has to wait. Keeps the deadline of one that waits already. */
  wait(page: number, reason: string, deadlineMs: number): Waiting {
    return this.#note(this.waiting, page, reason, deadlineMs);
  }

  /** The same for a fault at an address of no region. */
  stray(address: number, reason: string, deadlineMs: number): void {
    this.#note(this.strays, address, reason, deadlineMs);
  }

  /** Notes a page that cannot be had: not tried again before its deadline. @param asleep somebody waits for it */
  leaveToDeadline(page: number, reason: string, deadlineMs: number, asleep: boolean): void {
    const waiting = this.wait(page, reason, deadlineMs);
    waiting.attempts = Infinity;
    waiting.asleep = asleep;
  }

  /** Its bytes could not be read, which may pass: tried again in a while, for as long as its deadline is not over. */
  readFailed(page: number, reason: string, deadlineMs: number): void {
    const waiting = this.wait(page, reason, deadlineMs);
    waiting.attempts = MAX_ATTEMPTS;
    waiting.notBefore = performance.now() + READ_AGAIN_MS;
    waiting.failure = reason;
  }

  /** The same for a page that fell short, though nobody may be waiting: the server is to complete the session. */
  owe(page: number, reason: string, deadlineMs: number): void {
    const waiting = this.wait(page, reason, deadlineMs);
    waiting.owed = true;
    waiting.attempts++;
  }

  /** One of the pages that somebody is noted to wait for, or -1. */
  waitedFor(first: number, pages: number): number {
    if (this.waiting.size === 0) return -1;
    if (pages === 1) return this.waiting.has(first) ? first : -1;
    for (const page of this.waiting.keys()) if (page >= first && page < first + pages) return page;
    return -1;
  }

  /** Whether a page has failed so often that it is not tried for now. */
  hopeless(page: number): boolean {
    return (this.waiting.get(page)?.attempts ?? 0) >= MAX_ATTEMPTS;
  }

  #note(where: Map<number, Waiting>, key: number, reason: string, deadlineMs: number): Waiting {
    let waiting = where.get(key);
    if (waiting === undefined) {
      const since = performance.now();
      const flags = { asleep: true, looksAgain: false, owed: false, queued: false };
      const attempts = { attempts: 0, notBefore: 0, failure: undefined };
      waiting = { since, deadline: since + deadlineMs, reason, ...attempts, ...flags };
      where.set(key, waiting);
      if (this.slot >= 0) this.#attention.add(this);
    }
    waiting.reason = reason;
    waiting.asleep = true;
    return waiting;
  }

  /** Everything is there already, but for the parts (start and end of each, as offsets) that are zeroes without being there. */
  fillStates(holes: Float64Array): void {
    this.states.set(0, this.pages, PageState.resident);
    for (const { offset, firstPage, pages } of this.regions) {
      const pageOf = (at: number) => Math.min(pages, Math.max(0, (at - offset) / this.pageSize));
      for (let i = 0; i < holes.length; i += 2) {
        const [first, end] = [Math.ceil(pageOf(holes[i]!)), Math.floor(pageOf(holes[i + 1]!))];
        if (first < end) this.states.set(firstPage + first, end - first, PageState.zero);
      }
    }
  }

  /**
   * Goes on where another worker has left it. What it was at is known as far as it was given: a page that is shown must not
   * be written to again, it may be another one by now.
   */
  goOn({ given, parked }: MovedStates): void {
    const { absent, fetching, resident, zero } = PageState;
    const { bytes } = this.states;
    for (const [start, length, zeroes] of given) {
      const region = this.regionAt(start)!;
      const first = region.firstPage + (start - region.start) / this.pageSize;
      for (let page = first; page < first + length / this.pageSize; page++)
        if (bytes[page] === fetching) bytes[page] = zeroes ? zero : resident;
    }
    for (let page = bytes.indexOf(fetching); page >= 0; page = bytes.indexOf(fetching, page + 1)) bytes[page] = absent;
    this.parked = parked;
  }

  /** A range of addresses was dropped or unmapped. */
  remove(start: number, end: number): void {
    for (const region of this.regions) {
      const from = Math.max(start, region.start) - region.start;
      const to = Math.min(end, region.end) - region.start;
      if (from >= to) continue;
      const first = region.firstPage + Math.floor(from / this.pageSize);
      this.states.set(first, region.firstPage + Math.ceil(to / this.pageSize) - first, PageState.removed);
    }
  }

  /** The pages have been answered: nobody waits for them. */
  answered(first: number, count: number): void {
    if (this.waiting.size === 0) return;
    for (const page of count === 1 ? [first] : this.waiting.keys()) {
      const waiting = page >= first && page < first + count ? this.waiting.get(page) : undefined;
      if (waiting === undefined) continue;
      this.measures?.waited(waiting.since);
      this.waiting.delete(page);
    }
  }
}
