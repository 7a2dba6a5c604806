// Parts of a remote object, fetched as extents of one size: each at most once at a time, so many at once, and so many
// bytes of them kept.

export interface ExtentOptions {
  readonly sizeBytes: number;
  readonly extentBytes: number;
  /** What is kept; extents under way come on top. */
  readonly cacheBytes: number;
  /** Fetches at once; others wait for their turn. */
  readonly concurrency: number;
  /** Fills all of `target` with the bytes at `offset`. */
  readonly fetch: (target: Uint8Array, offset: number) => Promise<void>;
}

export class Extents {
  readonly #options: ExtentOptions;
  /** In the order they were used, the one used last at the end. */
  readonly #kept = new Map<number, Uint8Array>();
  readonly #underWay = new Map<number, Promise<Uint8Array>>();
  readonly #turns: (() => void)[] = [];
  #fetching = 0;

  constructor(options: ExtentOptions) {
    this.#options = options;
  }

  /** Copies bytes of the object, fetching what is not kept. */
  async read(target: Uint8Array, targetOffset: number, length: number, offset: number): Promise<void> {
    const { extentBytes } = this.#options;
    const first = Math.floor(offset / extentBytes);
    const last = Math.floor((offset + length - 1) / extentBytes);
    const indexes = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    await Promise.all(
      indexes.map(async (index) => {
        const bytes = this.#keptOne(index) ?? (await this.#single(index));
        const start = index * extentBytes;
        const from = Math.max(offset, start);
        const to = Math.min(offset + length, start + bytes.length);
        target.set(bytes.subarray(from - start, to - start), targetOffset + from - offset);
      }),
    );
  }

  #keptOne(index: number): Uint8Array | undefined {
    const bytes = this.#kept.get(index);
    if (bytes === undefined) return undefined;
    this.#kept.delete(index);
    this.#kept.set(index, bytes);
    return bytes;
  }

  #single(index: number): Promise<Uint8Array> {
    let underWay = this.#underWay.get(index);
    if (underWay === undefined) {
      underWay = this.#fetch(index).finally(() => this.#underWay.delete(index));
      this.#underWay.set(index, underWay);
    }
    return underWay;
  }

  async #fetch(index: number): Promise<Uint8Array> {
    const { sizeBytes, extentBytes, concurrency } = this.#options;
    if (this.#fetching >= concurrency) await new Promise<void>((resolve) => this.#turns.push(resolve));
    else this.#fetching++;
    try {
      const start = index * extentBytes;
      const bytes = new Uint8Array(Math.min(extentBytes, sizeBytes - start));
      await this.#options.fetch(bytes, start);
      this.#keep(index, bytes);
      return bytes;
    } finally {
      // Whoever waits takes this one's place.
      const next = this.#turns.shift();
      if (next === undefined) this.#fetching--;
      else next();
    }
  }

  #keep(index: number, bytes: Uint8Array): void {
    const { cacheBytes, extentBytes } = this.#options;
    this.#kept.set(index, bytes);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size * extentBytes <= cacheBytes) break;
      this.#kept.delete(oldest);
    }
  }
}
