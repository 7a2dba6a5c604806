// Follows a process and all of its children through their userfaultfds, and counts what they say.
import type { FaultEvent, PageFault, RangeGone, Userfaultfd } from '../../dist/index.js';

export class Monitor {
  readonly counts = { missing: 0, minor: 0, wp: 0, rwp: 0, fork: 0, remap: 0, remove: 0, unmap: 0, strange: 0 };
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];
  readonly #pageSize: number;
  readonly #writeProtect: boolean;

  /** Page N is filled with N + 1, but with zeroes once it was dropped; write-protected, if that is asked for. */
  constructor(pageSize: number, writeProtect = false) {
    this.#pageSize = pageSize;
    this.#writeProtect = writeProtect;
  }

  follow(uffd: Userfaultfd, dropped = new Set<number>()): void {
    this.#running.push(this.#serve(uffd, dropped));
  }

  /** Stops following. */
  async end(): Promise<void> {
    this.#stop.abort();
    for (const one of this.#running) await one;
  }

  async #serve(uffd: Userfaultfd, dropped: Set<number>): Promise<void> {
    using owned = uffd;
    try {
      for await (const event of owned.events({ signal: this.#stop.signal })) this.#handle(owned, event, dropped);
    } catch (error) {
      if (!this.#stop.signal.aborted) throw error;
    }
  }

  #handle(uffd: Userfaultfd, event: FaultEvent, dropped: Set<number>): void {
    switch (event.type) {
      case 'pagefault':
        this.counts[event.reason]++;
        this.#answer(uffd, event, dropped);
        return;
      case 'fork':
        this.counts.fork++;
        this.follow(event.userfaultfd, new Set(dropped));
        return;
      case 'remove':
        this.#drop(uffd, event, dropped);
        this.counts.remove++;
        return;
      case 'remap':
      case 'unmap':
        this.counts[event.type]++;
        return;
      default:
        this.counts.strange++;
    }
  }

  #drop(uffd: Userfaultfd, { start, end }: RangeGone, dropped: Set<number>): void {
    for (let at = start; at < end; at += BigInt(this.#pageSize)) {
      const region = uffd.regions.find((one) => one.contains(at));
      if (region !== undefined) dropped.add(region.firstPage + region.pageOf(at));
    }
  }

  #answer(uffd: Userfaultfd, fault: PageFault, dropped: Set<number>): void {
    if (fault.reason === 'wp') {
      uffd.writeProtect(fault, { protect: false });
      return;
    }
    const page = fault.region.firstPage + fault.page;
    const bytes = Buffer.alloc(this.#pageSize, dropped.has(page) ? 0 : page + 1);
    const outcome = uffd.copy(fault, bytes, { writeProtect: this.#writeProtect });
    // `changing`: an event has to be read first; whoever waits is let go to fault again after it.
    if (outcome.kind !== 'installed') uffd.wake(fault);
  }
}
