// The load: native threads that touch pages in one shared order, and what each touch took.
import { addAbortListener } from 'node:events';
import { KernelError, MemoryFaultError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { AccessOutcome } from '../native/contract.js';
import { native } from '../native/load.js';

export interface Load {
  readonly order: Uint32Array;
  readonly threads: number;
  readonly cpus: readonly number[];
  readonly signal: AbortSignal;
}

export interface Touched {
  /** From the first touch to the last. */
  readonly seconds: number;
  /** Ascending. */
  readonly latenciesNs: Uint32Array;
}

/** @throws MemoryFaultError, or the signal's reason */
export function touch(mapping: Mapping, load: Load): Promise<Touched> {
  const { order, threads, cpus, signal } = load;
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const running = new (native().TouchThreads)(
      mapping.handle,
      mapping.pageSize,
      order,
      threads,
      false,
      // Every touch of these mappings faults, and asking the kernel after each costs what a fast handler does.
      false,
      [...cpus],
      (_touched, _faulted, elapsedNs, latencies, outcome, signalNumber, siCode) => {
        listener[Symbol.dispose]();
        if (outcome === AccessOutcome.done) resolve({ seconds: elapsedNs / 1e9, latenciesNs: latencies.sort() });
        else if (outcome === AccessOutcome.cancelled) reject(signal.reason as Error);
        else reject(new MemoryFaultError(signalNumber === 7 ? 'SIGBUS' : 'SIGSEGV', siCode, -1));
      },
    );
    if (running.error() < 0) reject(new KernelError(running.error(), 'pthread_create', `${threads} threads`));
    const listener = addAbortListener(signal, () => {
      running.cancel();
    });
  });
}

export function inOrder(pages: number): Uint32Array {
  return Uint32Array.from({ length: pages }, (_, page) => page);
}

/** A permutation that is the same in every run. */
export function shuffled(pages: number): Uint32Array {
  const order = inOrder(pages);
  let seed = 1;
  for (let i = pages - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((seed / 2 ** 32) * (i + 1));
    const swapped = order[i]!;
    order[i] = order[j]!;
    order[j] = swapped;
  }
  return order;
}
