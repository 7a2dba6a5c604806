// Parts of a remote object. A request begins with the small block that is asked for, which is there before the request has
// ended, and goes on to the end of the extent; a second one brings what the extent has before it. Each block is fetched at
// most once at a time, so many requests are made at once, and so many bytes are kept.
import { addAbortListener } from 'node:events';

export interface ExtentOptions {
  readonly sizeBytes: number;
  /** What is kept and fetched at least, and what is fetched at most at once; both a power of two. */
  readonly blockBytes: number;
  readonly extentBytes: number;
  /** What is kept; blocks under way come on top. */
  readonly cacheBytes: number;
  /** Requests at once; others wait for their turn. */
  readonly concurrency: number;
  /**
   * Fills all of `target` with the bytes at `offset`; rejects once nobody wants them.
   * @param arrived told how many of them are there, from the first on: those stay as they are
   */
  readonly fetch: (
    target: Uint8Array,
    offset: number,
    arrived: (bytes: number) => void,
    signal: AbortSignal,
  ) => Promise<void>;
}

/** A request, and how many reads wait for it. */
interface Run {
  readonly stop: AbortController;
  readers: number;
}

interface UnderWay {
  readonly run: Run;
  readonly bytes: Promise<Uint8Array>;
}

/** The end of waiting for a block. */
interface Waiting {
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
}

export class Extents {
  readonly #options: ExtentOptions;
  /** In the order they were used, the one used last at the end. */
  readonly #kept = new Map<number, Uint8Array>();
  readonly #underWay = new Map<number, UnderWay>();
  readonly #turns: (() => void)[] = [];
  #fetching = 0;

  constructor(options: ExtentOptions) {
    this.#options = options;
  }

  /**
   * Copies bytes of the object, fetching what is not kept; the rest of the extents is on its way when it resolves. What
   * no read waits for any more, because of their signals, is not fetched on.
   */
  async read(
    target: Uint8Array,
    targetOffset: number,
    length: number,
    offset: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { blockBytes, concurrency } = this.#options;
    const first = Math.floor(offset / blockBytes);
    const end = Math.ceil((offset + length) / blockBytes);
    for (const { from, to } of this.#missing(first, end)) {
      // Nothing more than what is asked for while others wait for their turn.
      const more = this.#fetching < concurrency;
      this.#fetch(from, more ? this.#missingUpTo(to) : to);
    }
    this.#fetchAround(first, end);
    using given = new GivenUp(signal);
    const blocks = Array.from({ length: end - first }, (_, i) => first + i);
    const parts = await Promise.allSettled(
      blocks.map(async (block) => this.#keptOne(block) ?? (await this.#awaited(this.#underWay.get(block)!, given))),
    );
    // Not before all of them are there: a read that has failed writes to its target no more.
    const failed = parts.find((part) => part.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    parts.forEach((part, i) => {
      const bytes = (part as PromiseFulfilledResult<Uint8Array>).value;
      const start = blocks[i]! * blockBytes;
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + bytes.length);
      target.set(bytes.subarray(from - start, to - start), targetOffset + from - offset);
    });
  }

  /** The bytes of a block, unless the read is given up before. */
  async #awaited({ run, bytes }: UnderWay, given: GivenUp): Promise<Uint8Array> {
    run.readers++;
    try {
      return await Promise.race([bytes, given.up]);
    } finally {
      if (--run.readers === 0 && given.signal.aborted) this.#stop(run);
    }
  }

  /** Whoever asks for its blocks from now on has them fetched anew. */
  #stop(run: Run): void {
    for (const [block, underWay] of this.#underWay) if (underWay.run === run) this.#underWay.delete(block);
    run.stop.abort();
  }

  /** Beside what is asked for: only where there is a turn to be had. */
  #fetchAround(first: number, end: number): void {
    const { sizeBytes, blockBytes, extentBytes, concurrency } = this.#options;
    const perExtent = extentBytes / blockBytes;
    const start = Math.floor(first / perExtent) * perExtent;
    const last = Math.min(Math.ceil(end / perExtent) * perExtent, Math.ceil(sizeBytes / blockBytes));
    for (const { from, to } of this.#missing(start, last)) {
      if (this.#fetching >= concurrency) return;
      this.#fetch(from, to);
    }
  }

  /** What is neither kept nor under way of these blocks: runs of them, none of more than one extent. */
  *#missing(first: number, end: number): Generator<{ from: number; to: number }> {
    for (let from = first; from < end; from++) {
      if (!this.#isMissing(from)) continue;
      const to = Math.min(end, this.#missingUpTo(from + 1));
      yield { from, to };
      from = to - 1;
    }
  }

  /** The end of the blocks that are missing from `block` on, in the extent of the block before it. */
  #missingUpTo(block: number): number {
    const { sizeBytes, blockBytes, extentBytes } = this.#options;
    const perExtent = extentBytes / blockBytes;
    const end = Math.min(Math.ceil(block / perExtent) * perExtent, Math.ceil(sizeBytes / blockBytes));
    let to = block;
    while (to < end && this.#isMissing(to)) to++;
    return to;
  }

  #isMissing(block: number): boolean {
    return !this.#kept.has(block) && !this.#underWay.has(block);
  }

  #keptOne(block: number): Uint8Array | undefined {
    const bytes = this.#kept.get(block);
    if (bytes === undefined) return undefined;
    this.#kept.delete(block);
    this.#kept.set(block, bytes);
    return bytes;
  }

  /** One request for a run of blocks, each of which can be waited for, and is there as soon as its bytes are. */
  #fetch(from: number, to: number): void {
    const run: Run = { stop: new AbortController(), readers: 0 };
    const waiting: Waiting[] = [];
    for (let block = from; block < to; block++) {
      const bytes = new Promise<Uint8Array>((resolve, reject) => waiting.push({ resolve, reject }));
      // Whoever waits for it gets the error; perhaps nobody does.
      bytes.catch(() => undefined);
      this.#underWay.set(block, { run, bytes });
    }
    const settled = (block: number) => {
      if (this.#underWay.get(block)?.run === run) this.#underWay.delete(block);
    };
    let next = from;
    const arrived = (bytes: Uint8Array, ready: number) => {
      const { blockBytes } = this.#options;
      for (; next < to && ready >= Math.min((next - from + 1) * blockBytes, bytes.length); next++) {
        const at = (next - from) * blockBytes;
        // Copied: what is kept of a run must not keep all of it.
        waiting[next - from]!.resolve(this.#keep(next, bytes.slice(at, at + blockBytes)));
        settled(next);
      }
    };
    this.#request(from, to, arrived, run.stop.signal).catch((error: unknown) => {
      for (; next < to; next++) {
        waiting[next - from]!.reject(error);
        settled(next);
      }
    });
  }

  async #request(
    from: number,
    to: number,
    arrived: (bytes: Uint8Array, ready: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { sizeBytes, blockBytes, concurrency } = this.#options;
    if (this.#fetching >= concurrency) await new Promise<void>((resolve) => this.#turns.push(resolve));
    else this.#fetching++;
    try {
      const start = from * blockBytes;
      const bytes = new Uint8Array(Math.min((to - from) * blockBytes, sizeBytes - start));
      signal.throwIfAborted();
      await this.#options.fetch(
        bytes,
        start,
        (ready) => {
          arrived(bytes, ready);
        },
        signal,
      );
      arrived(bytes, bytes.length);
    } finally {
      // Whoever waits takes this one's place.
      const next = this.#turns.shift();
      if (next === undefined) this.#fetching--;
      else next();
    }
  }

  #keep(block: number, bytes: Uint8Array): Uint8Array {
    const { cacheBytes, blockBytes } = this.#options;
    this.#kept.set(block, bytes);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size * blockBytes <= cacheBytes) break;
      this.#kept.delete(oldest);
    }
    return bytes;
  }
}

/** One listener for all the blocks of a read. */
class GivenUp implements Disposable {
  readonly signal: AbortSignal;
  /** Rejects when the signal is aborted. */
  readonly up: Promise<never>;
  #listener: Disposable | undefined;

  constructor(signal: AbortSignal) {
    this.signal = signal;
    this.up = new Promise((_, reject) => {
      this.#listener = addAbortListener(signal, () => {
        reject(signal.reason as Error);
      });
    });
    this.up.catch(() => undefined);
  }

  [Symbol.dispose](): void {
    this.#listener?.[Symbol.dispose]();
  }
}
