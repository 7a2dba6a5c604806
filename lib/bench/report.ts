// What `uffd bench --json` prints.
import type { Figures } from './statistics.js';

/** A row: a time of the server under test beside the same time of what it is compared with. */
export interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly subject: Figures;
  readonly reference: Figures;
  /** Median over the repetitions of subject / reference: lower is better. */
  readonly ratio: number;
  readonly repetitions: number;
  /** The ratio it should not be above, where there is such a figure. */
  readonly reach?: number;
}

/** A time without a counterpart. */
export interface Limit extends Figures {
  readonly name: string;
  readonly unit: string;
}

/** A figure that is no time of a fault: `limit` is what it should stay below. */
export interface Extra {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  readonly limit?: number;
}

/** The C handler against itself, measured like every other row. */
export interface Noise {
  /** Median of all its ratios: 1 where nothing disturbs. */
  readonly ratioMedian: number;
  /** How far the row furthest from 1 is away from it: what a comparison of equals can come out at. */
  readonly spread: number;
  /** Set when the spread is so large that the rows cannot be trusted. */
  readonly noisy: boolean;
  readonly controls: readonly { readonly name: string; readonly ratio: number; readonly repetitions: number }[];
}

export interface MachineFacts {
  readonly cpus: number;
  /** The two CPUs that pinned rows use; one and the same where only one is allowed. */
  readonly cpusUsed: readonly number[];
  readonly cpuModel: string;
  readonly kernel: string;
  readonly node: string;
  readonly pageSize: number;
  readonly memoryBytes: number;
  /** Of the last minute, before the run began. */
  readonly loadAverage: number;
}

export interface BenchReport {
  readonly schema: 1;
  readonly quick: boolean;
  readonly seconds: number;
  readonly comparisons: readonly Comparison[];
  readonly limits: readonly Limit[];
  readonly extra: readonly Extra[];
  /** What could not be measured here, and why. */
  readonly skipped?: readonly { readonly name: string; readonly reason: string }[];
  readonly noise: Noise;
  readonly machine: MachineFacts;
}
