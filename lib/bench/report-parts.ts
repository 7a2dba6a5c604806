// The parts that every report of a benchmark has.
import { cpus, loadavg, release, totalmem } from 'node:os';
import { pageSize } from '../memory/page-size.js';
import type { Measured } from './contestant.js';
import type { Comparison, MachineFacts, Noise } from './report.js';
import { median } from './statistics.js';

/** A control further from 1 than this says that the machine was busy with something else. */
const NOISY = 0.05;

export function comparison({ row, ...measured }: Measured): Comparison {
  const { name, unit, reach } = row;
  return { name, unit, ...measured, ...(reach !== undefined && { reach }) };
}

export function noise(results: readonly Measured[]): Noise {
  const controls = results.map(({ row, ratio, repetitions }) => ({ name: row.name, ratio, repetitions }));
  // Tails differ more than medians do, and say little about the rows that are none.
  const ratios = results.filter(({ row }) => row.time !== 'p99').map(({ ratio }) => ratio);
  const spread = Math.max(...ratios.map((ratio) => Math.abs(ratio - 1)));
  return { ratioMedian: median(ratios), spread, noisy: spread > NOISY, controls };
}

export function machineFacts(cpusUsed: readonly number[]): MachineFacts {
  return {
    cpus: cpus().length,
    cpusUsed: [...new Set(cpusUsed)],
    cpuModel: cpus()[0]?.model ?? 'unknown',
    kernel: release(),
    node: process.version,
    pageSize: pageSize(),
    memoryBytes: totalmem(),
    loadAverage: loadavg()[0] ?? 0,
  };
}
