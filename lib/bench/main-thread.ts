// What the thread that made the server notices of its work: how late a timer of 5 ms comes at full load.
import { setTimeout as sleep } from 'node:timers/promises';
import { Mapping } from '../memory/mapping.js';
import { pageSize } from '../memory/page-size.js';
import type { BenchContext } from './bench-context.js';
import { FaultingMemory, TestedServer } from './handlers.js';
import type { Extra } from './report.js';
import { percentile } from './statistics.js';
import { touch, touchOrder } from './touching.js';

const PAGES = { full: 262_144, quick: 65_536 };
const RUNS = { full: 5, quick: 3 };
const THREADS = 16;
const TIMER_MS = 5;

export async function mainThread(context: BenchContext): Promise<Extra[]> {
  const pages = context.size(PAGES);
  const lengthBytes = pages * pageSize();
  const memfd = context.resident(lengthBytes);
  using memory = new FaultingMemory(Mapping.map(memfd, { lengthBytes }), memfd);
  await using server = await TestedServer.start({ faultAround: 1 });
  await server.serve(memory);
  const overshoots: number[] = [];
  for (let run = 0; run < context.size(RUNS); run++) {
    const order = touchOrder(pages, 'sequential');
    const state = { busy: true };
    const touched = touch(memory.mapping, { order, threads: THREADS, cpus: [], signal: context.signal }).finally(() => {
      state.busy = false;
    });
    await Promise.all([touched, sampleTimer(state, overshoots)]);
    memory.mapping.advise('dontNeed');
  }
  const value = percentile(
    overshoots.toSorted((a, b) => a - b),
    99,
  );
  const name = `main thread: overshoot of a ${TIMER_MS} ms timer beside ${THREADS} faulting threads, p99`;
  return [{ name, unit: 'ms', value, limit: TIMER_MS }];
}

/** Only while faults are served: what comes before and after is work of this thread's own. */
async function sampleTimer(state: { readonly busy: boolean }, overshoots: number[]): Promise<void> {
  for (;;) {
    const started = performance.now();
    await sleep(TIMER_MS);
    const overshoot = performance.now() - started - TIMER_MS;
    if (!state.busy) return;
    overshoots.push(overshoot);
  }
}
