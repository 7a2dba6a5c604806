// What every runner is given: how large, where, and until when.
import { Memfd } from '../memory/memfd.js';
import { native } from '../native/load.js';
import { Snapshot } from './snapshot.js';

export type Placement = 'one CPU' | 'two CPUs' | 'unpinned';

/** A number of the full run, and its counterpart of `--quick`. */
export interface Size {
  readonly full: number;
  readonly quick: number;
}

const CHUNK_BYTES = 2 ** 20;

export class BenchContext implements Disposable {
  readonly quick: boolean;
  readonly signal: AbortSignal;
  /** Of the restore rows; undefined: what the server does by itself. */
  readonly faultAround: number | undefined;
  /** The two CPUs of pinned rows. */
  readonly cpusUsed: readonly [number, number];
  #resident: Memfd | undefined;
  #snapshot: Snapshot | undefined;

  constructor(options: { quick: boolean; signal: AbortSignal; faultAround: number | undefined }) {
    this.quick = options.quick;
    this.signal = options.signal;
    this.faultAround = options.faultAround;
    const [first = 0, second = first] = native().affinity();
    this.cpusUsed = [first, second];
  }

  size(size: Size): number {
    return this.quick ? size.quick : size.full;
  }

  /** Affinity of the handler and of the threads that touch; empty where they may run anywhere. */
  cpus(placement: Placement): { handler: number[]; touching: number[] } {
    const [first, second] = this.cpusUsed;
    switch (placement) {
      case 'one CPU':
        return { handler: [first], touching: [first] };
      case 'two CPUs':
        return { handler: [first], touching: [second] };
      case 'unpinned':
        return { handler: [], touching: [] };
    }
  }

  /** A memfd all of whose pages are there: both sides map the same ones. */
  resident(sizeBytes: number): Memfd {
    if (this.#resident !== undefined && this.#resident.sizeBytes >= sizeBytes) return this.#resident;
    this.#resident?.close();
    this.#resident = Memfd.create({ sizeBytes, name: 'uffd-bench' });
    // Written, not only allocated: what fallocate(2) brings is cleared when it is first mapped.
    const bytes = Buffer.alloc(Math.min(sizeBytes, CHUNK_BYTES), 1);
    for (let at = 0; at < sizeBytes; at += bytes.length) {
      this.#resident.write(bytes.subarray(0, Math.min(bytes.length, sizeBytes - at)), at);
    }
    return this.#resident;
  }

  /** A file in the page cache, of one size for the whole run. */
  snapshot(sizeBytes: number): Snapshot {
    return (this.#snapshot ??= new Snapshot(sizeBytes));
  }

  [Symbol.dispose](): void {
    this.#resident?.close();
    this.#snapshot?.[Symbol.dispose]();
  }
}
