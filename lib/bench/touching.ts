// Touching every page of a mapping from native threads, in one shared order.
import { addAbortListener } from 'node:events';
import { KernelError, MemoryFaultError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { AccessOutcome } from '../native/contract.js';
import { native } from '../native/load.js';

export interface TouchOptions {
  readonly order: Uint32Array;
  readonly threads: number;
  readonly write?: boolean;
  /** Ask the kernel after each touch whether it faulted; then only those have a latency. 0.2 us a touch. Default true. */
  readonly countFaults?: boolean;
  readonly cpus?: readonly number[];
  readonly signal?: AbortSignal;
  /** Called about ten times a second with the pages touched so far. */
  readonly onProgress?: (touched: number) => void;
}

export interface TouchResult {
  readonly touched: number;
  /** Touches that faulted, as the kernel counts them for the thread (getrusage(2): ru_minflt and ru_majflt). */
  readonly faulted: number;
  readonly seconds: number;
  /** Of the touches that faulted, ascending, in nanoseconds. */
  readonly latenciesNs: Uint32Array;
}

/** Page numbers 0 to pages - 1: in order, or in a permutation that is the same in every run. */
export function touchOrder(pages: number, order: 'sequential' | 'random'): Uint32Array {
  return order === 'random' ? shuffled(pages) : Uint32Array.from({ length: pages }, (_, page) => page);
}

/** The same permutation in every run. */
export function shuffled(count: number): Uint32Array {
  const numbers = Uint32Array.from({ length: count }, (_, i) => i);
  let seed = 1;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((seed / 2 ** 32) * (i + 1));
    const swapped = numbers[i]!;
    numbers[i] = numbers[j]!;
    numbers[j] = swapped;
  }
  return numbers;
}

/** @throws MemoryFaultError, or the signal's reason */
export async function touchPages(mapping: Mapping, options: TouchOptions): Promise<TouchResult> {
  const { order, threads, write = false, countFaults = true, cpus = [], signal, onProgress } = options;
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const running = new (native().TouchThreads)(
      mapping.handle,
      mapping.pageSize,
      order,
      threads,
      write,
      countFaults,
      [...cpus],
      (touched, faulted, elapsedNs, latencies, outcome, signalNumber, siCode, address) => {
        clearInterval(progress);
        listener?.[Symbol.dispose]();
        if (outcome === AccessOutcome.done) {
          onProgress?.(touched);
          const latenciesNs = (countFaults ? latencies.filter((ns) => ns > 0) : latencies).sort();
          resolve({ touched, faulted, seconds: elapsedNs / 1e9, latenciesNs });
        } else if (outcome === AccessOutcome.cancelled) reject(signal?.reason as Error);
        else {
          const page = Math.floor((address - Number(mapping.address)) / mapping.pageSize);
          reject(new MemoryFaultError(signalNumber === 7 ? 'SIGBUS' : 'SIGSEGV', siCode, page));
        }
      },
    );
    if (running.error() < 0) {
      reject(
        new KernelError(running.error(), 'pthread_create', `${threads} threads: see ulimit -u and the pids cgroup`),
      );
      return;
    }
    const progress =
      onProgress &&
      setInterval(() => {
        onProgress(Math.max(0, running.progress()));
      }, 100);
    const listener =
      signal &&
      addAbortListener(signal, () => {
        running.cancel();
      });
  });
}

/** What the benchmark asks for: every touch faults, and asking the kernel after each would cost what a handler does. */
export type Load = Required<Pick<TouchOptions, 'order' | 'threads' | 'cpus' | 'signal'>>;

export function touch(mapping: Mapping, load: Load): Promise<TouchResult> {
  return touchPages(mapping, { ...load, countFaults: false });
}

/** A percentile of ascending nanoseconds, in microseconds; 0 when there are none. */
export function percentileUs(sortedNs: Uint32Array, percent: number): number {
  if (sortedNs.length === 0) return 0;
  const index = Math.min(sortedNs.length - 1, Math.ceil((percent / 100) * sortedNs.length) - 1);
  return (sortedNs[Math.max(0, index)] ?? 0) / 1000;
}
