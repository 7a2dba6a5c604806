// Parts of a remote object. What is asked for is fetched first, in small blocks; then the rest of the extent around it.
// Each block is fetched at most once at a time, so many requests are made at once, and so many bytes are kept.
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
  /** Fills all of `target` with the bytes at `offset`; rejects once nobody wants them. */
  readonly fetch: (target: Uint8Array, offset: number, signal: AbortSignal) => Promise<void>;
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
    const { blockBytes } = this.#options;
    const first = Math.floor(offset / blockBytes);
    const end = Math.ceil((offset + length) / blockBytes);
    for (const { from, to } of this.#missing(first, end)) this.#fetch(from, to);
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
    this.#fetchAround(first, end);
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

  /** Behind what is asked for: only where there is a turn to be had. */
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
    const perExtent = this.#options.extentBytes / this.#options.blockBytes;
    const isMissing = (block: number) => !this.#kept.has(block) && !this.#underWay.has(block);
    for (let from = first; from < end; from++) {
      if (!isMissing(from)) continue;
      let to = from + 1;
      while (to < end && to % perExtent !== 0 && isMissing(to)) to++;
      yield { from, to };
      from = to - 1;
    }
  }

  #keptOne(block: number): Uint8Array | undefined {
    const bytes = this.#kept.get(block);
    if (bytes === undefined) return undefined;
    this.#kept.delete(block);
    this.#kept.set(block, bytes);
    return bytes;
  }

  /** One request for a run of blocks, each of which can be waited for. */
  #fetch(from: number, to: number): void {
    const { blockBytes } = this.#options;
    const run: Run = { stop: new AbortController(), readers: 0 };
    const all = this.#request(from, to, run.stop.signal);
    for (let block = from; block < to; block++) {
      const at = (block - from) * blockBytes;
      // Copied: what is kept of a run must not keep all of it.
      const one = all.then((bytes) => this.#keep(block, bytes.slice(at, at + blockBytes)));
      this.#underWay.set(block, { run, bytes: one });
      // Whoever waits for it gets the error; perhaps nobody does.
      void one
        .catch(() => undefined)
        .finally(() => {
          if (this.#underWay.get(block)?.run === run) this.#underWay.delete(block);
        });
    }
  }

  async #request(from: number, to: number, signal: AbortSignal): Promise<Uint8Array> {
    const { sizeBytes, blockBytes, concurrency } = this.#options;
    if (this.#fetching >= concurrency) await new Promise<void>((resolve) => this.#turns.push(resolve));
    else this.#fetching++;
    try {
      const start = from * blockBytes;
      const bytes = new Uint8Array(Math.min((to - from) * blockBytes, sizeBytes - start));
      signal.throwIfAborted();
      await this.#options.fetch(bytes, start, signal);
      return bytes;
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
