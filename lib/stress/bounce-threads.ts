// The native threads that fill, bounce and verify an area, with a deadline for each of their steps.
import { addAbortListener } from 'node:events';
import { KernelError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { AccessOutcome, BounceLine, BounceWork } from '../native/contract.js';
import { native } from '../native/load.js';

const LOOK_MS = 20;

export interface BounceLoad {
  readonly work: keyof typeof BounceWork;
  readonly mapping: Mapping;
  /** The way of the threads: a permutation of the pages. */
  readonly order: Uint32Array;
  /** How often each page was changed, on a SharedArrayBuffer. */
  readonly changes: Uint32Array;
  readonly threads: number;
  /** All threads begin at the first page of the order. */
  readonly racing?: boolean;
  /** Ends them after the page they are at. */
  readonly finish?: AbortSignal;
  /** Calls them back wherever they are: nobody serves them any more. */
  readonly cancel: AbortSignal;
  /** Without a page in so long they are called back. */
  readonly stallMs: number;
}

export interface BounceResult {
  readonly visits: number;
  readonly wrongPages: number;
  readonly firstWrong?: string;
  /** Why the threads were called back, or what an access of theirs came to. */
  readonly stalled?: string;
}

/** @throws the reason of `cancel` */
export async function runBounceThreads(load: BounceLoad): Promise<BounceResult> {
  const { mapping, order, changes, threads, racing = false, finish, cancel } = load;
  cancel.throwIfAborted();
  return new Promise((resolve, reject) => {
    const running = new (native().BounceThreads)(
      mapping.handle,
      BounceWork[load.work],
      mapping.pageSize,
      order,
      changes,
      threads,
      racing,
      (visits, wrongPages, page, line, expected, found, outcome, signal, siCode, address) => {
        clearInterval(looking);
        for (const listener of listeners) listener[Symbol.dispose]();
        if (cancel.aborted) {
          reject(cancel.reason as Error);
          return;
        }
        const failedPage = Math.floor((address - Number(mapping.address)) / mapping.pageSize);
        const stalled =
          outcome === AccessOutcome.done
            ? undefined
            : outcome === AccessOutcome.cancelled
              ? `no page has come for ${load.stallMs / 1000} s: an answer or a wake-up is missing`
              : `signal ${signal} (si_code ${siCode}) at page ${failedPage}`;
        resolve({
          visits,
          wrongPages,
          ...(wrongPages > 0 && { firstWrong: describeWrong(page, line, expected, found) }),
          ...(stalled !== undefined && { stalled }),
        });
      },
    );
    if (running.error() < 0) {
      reject(
        new KernelError(running.error(), 'pthread_create', `${threads} threads: see ulimit -u and the pids cgroup`),
      );
      return;
    }
    const listeners = [addAbortListener(cancel, () => running.cancel())];
    if (finish !== undefined) listeners.push(addAbortListener(finish, () => running.finish()));
    let last = { progress: -1, at: performance.now() };
    const looking = setInterval(() => {
      const progress = running.progress();
      if (progress !== last.progress) last = { progress, at: performance.now() };
      else if (performance.now() - last.at > load.stallMs) running.cancel();
    }, LOOK_MS);
  });
}

function describeWrong(page: number, line: number, expected: bigint, found: bigint): string {
  const { lineBits, pageBits } = BounceLine;
  const changeOf = (value: bigint) => value >> (lineBits + pageBits);
  const pageOf = (value: bigint) => (value >> lineBits) & ((1n << pageBits) - 1n);
  const lineOf = (value: bigint) => value & ((1n << lineBits) - 1n);
  const said =
    found === 0n
      ? 'zeroes'
      : `line ${lineOf(found)} of page ${pageOf(found)} as it was after change ${changeOf(found)}`;
  return `page ${page}, line ${line}: ${said} instead of change ${changeOf(expected)}`;
}
