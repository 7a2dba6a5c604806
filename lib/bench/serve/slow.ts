// A client on a file that is in the page cache, beside one on a file whose reads take 200 ms, served by one process.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Size } from '../bench-context.js';
import { Cleanup } from '../cleanup.js';
import { type Measured, alternate } from '../contestant.js';
import { TouchingClient } from './client.js';
import type { ServeContext } from './serve-context.js';
import { SLOW_FILE_BYTES, SlowFile } from './slow-file.js';
import { SIZE_BYTES, THREADS } from './trials.js';

const DELAY_MS = 200;
/** Until the slow one waits for its first pages. */
const START_MS = 500;
const WARM_BYTES: Size = { full: 2 ** 28, quick: 2 ** 24 };
const REPETITIONS: Size = { full: 9, quick: 3 };

/** The 99th percentile of the touches of the one, with the other beside it and alone. */
export async function besideSlow(context: ServeContext): Promise<Measured[]> {
  const { path } = context.snapshot(context.size(SIZE_BYTES));
  const { signal, folder } = context;
  await using made = new Cleanup();
  const slow = made.use(await SlowFile.start(DELAY_MS, signal));
  const sockets = { warm: join(folder, 'warm.sock'), slow: join(folder, 'slow.sock') };
  const pairs = ['--socket', `${sockets.warm}=${path}`, '--socket', `${sockets.slow}=${slow.path}`];
  // Every touch a fault.
  made.use(await context.startServe([...pairs, '--fault-around', '1']));
  const client = made.use(new TouchingClient(signal));
  const slowRun = { socket: sockets.slow, sizeBytes: SLOW_FILE_BYTES, threads: THREADS, snapshot: slow.path };
  const warmRun = { socket: sockets.warm, sizeBytes: context.size(WARM_BYTES), threads: 1, snapshot: path };
  const kind = { memory: 'anonymous', touched: 'all' } as const;
  const alone = { run: async () => ({ p99: (await client.run({ ...warmRun, ...kind })).p99Us }) };
  const beside = {
    run: async () => {
      await using other = new TouchingClient(signal);
      const touching = other.run({ ...slowRun, ...kind }).catch(() => undefined);
      // Faults of both from the first touch to the last.
      await sleep(START_MS);
      const times = await alone.run();
      await other[Symbol.asyncDispose]();
      await touching;
      return times;
    },
  };
  const name = `p99 of a client, beside one whose reads take ${DELAY_MS} ms`;
  return await alternate(beside, alone, [{ name, unit: 'us', time: 'p99', reach: 1 }], context.size(REPETITIONS));
}
