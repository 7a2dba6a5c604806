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
/** Also its name for `--only`. */
export const BESIDE_SLOW = `p99 of a client, beside one whose reads take ${DELAY_MS} ms`;
/** Until the slow one waits for its first pages. */
const START_MS = 500;
const WARM_BYTES: Size = { full: 2 ** 28, quick: 2 ** 24 };
const REPETITIONS: Size = { full: 9, quick: 3 };

/**
 * The 99th percentile of the touches of the one, with the other beside it and alone. Then the same with the other at a
 * server of its own: what sharing the CPUs does by itself, and no server can help.
 */
export async function besideSlow(context: ServeContext): Promise<Measured[]> {
  const { path } = context.snapshot(context.size(SIZE_BYTES));
  const { signal, folder } = context;
  await using made = new Cleanup();
  const slow = made.use(await SlowFile.start(DELAY_MS, signal));
  const socket = (name: string) => join(folder, `${name}.sock`);
  const pair = (name: string, file: string) => ['--socket', `${socket(name)}=${file}`];
  // Every touch a fault.
  const everyTouch = ['--fault-around', '1'];
  made.use(await context.startServe([...pair('warm', path), ...pair('slow', slow.path), ...everyTouch]));
  made.use(await context.startServe([...pair('elsewhere', slow.path), ...everyTouch]));
  const client = made.use(new TouchingClient(signal));
  const kind = { memory: 'anonymous', touched: 'all' } as const;
  const warmRun = { socket: socket('warm'), sizeBytes: context.size(WARM_BYTES), threads: 1, snapshot: path, ...kind };
  const alone = { run: async () => ({ p99: (await client.run(warmRun)).p99Us }) };
  const beside = (name: string) => ({
    run: async () => {
      await using other = new TouchingClient(signal);
      const slowRun = { socket: socket(name), sizeBytes: SLOW_FILE_BYTES, threads: THREADS, snapshot: slow.path };
      const touching = other.run({ ...slowRun, ...kind }).catch(() => undefined);
      // Faults of both from the first touch to the last.
      await sleep(START_MS);
      const times = await alone.run();
      await other[Symbol.asyncDispose]();
      await touching;
      return times;
    },
  });
  const row = { unit: 'us', time: 'p99' };
  const repetitions = context.size(REPETITIONS);
  return [
    ...(await alternate(beside('slow'), alone, [{ ...row, name: BESIDE_SLOW, reach: 1 }], repetitions)),
    ...(await alternate(
      beside('elsewhere'),
      alone,
      [{ ...row, name: `${BESIDE_SLOW} at another server` }],
      repetitions,
    )),
  ];
}
