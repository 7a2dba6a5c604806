// The figures of `uffd bench serve` that have no C handler beside them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pageSize } from '../../memory/page-size.js';
import type { Size } from '../bench-context.js';
import { Cleanup } from '../cleanup.js';
import type { Extra } from '../report.js';
import { median } from '../statistics.js';
import { TouchingClient } from './client.js';
import { DelayedObject } from './delayed-object.js';
import type { ServeContext } from './serve-context.js';
import { CLUSTER_BYTES } from './touched-pages.js';
import { SIZE_BYTES, THREADS } from './trials.js';

const MIB = 2 ** 20;
const SESSIONS = 64;
const SESSION_BYTES: Size = { full: 64 * MIB, quick: 4 * MIB };
const STARTS: Size = { full: 9, quick: 3 };
const REPETITIONS: Size = { full: 5, quick: 2 };
const OBJECT_BYTES = 64 * MIB;
const LATENCY_MS = 20;
const BYTES_PER_SECOND = 100e6;
/** What a server may have beside its page states. */
const FIXED_BYTES = 64 * MIB;

/** Whether one of many clients has to wait for the others. */
export async function manySessions(context: ServeContext): Promise<Extra[]> {
  const { path } = context.snapshot(context.size(SIZE_BYTES));
  const { signal, folder } = context;
  await using made = new Cleanup();
  const socket = join(folder, 'many.sock');
  made.use(await context.startServe([path, '--socket', socket]));
  const client = made.use(new TouchingClient(signal));
  const sizeBytes = context.size(SESSION_BYTES);
  const run = { socket, memory: 'anonymous', sizeBytes, touched: 'all', threads: 1, snapshot: path } as const;
  await client.run({ ...run, sessions: 2 });
  const slowest: number[] = [];
  const middle: number[] = [];
  for (let i = 0; i < context.size(REPETITIONS); i++) {
    const { seconds } = await client.run({ ...run, sessions: SESSIONS });
    slowest.push(Math.max(...seconds));
    middle.push(median(seconds));
  }
  const name = `${SESSIONS} sessions of ${sizeBytes / MIB} MiB`;
  const ratios = slowest.map((time, i) => time / middle[i]!);
  return [
    { name: `${name}: median`, unit: 's', value: median(middle) },
    { name: `${name}: slowest / median`, unit: '', value: median(ratios), limit: 2 },
  ];
}

/** A quarter of an object, over a network that is neither near nor wide. */
export async function overHttp(context: ServeContext): Promise<Extra[]> {
  const snapshot = context.snapshot(context.size(SIZE_BYTES));
  const { signal, folder } = context;
  const bytes = snapshot.read(0, OBJECT_BYTES);
  const overBound: number[] = [];
  const fetched: number[] = [];
  const run = { memory: 'anonymous', sizeBytes: OBJECT_BYTES, touched: 'clusters', threads: THREADS } as const;
  await using client = new TouchingClient(signal);
  for (let i = 0; i < context.size(REPETITIONS); i++) {
    await using made = new Cleanup();
    const object = made.use(await DelayedObject.start(bytes, LATENCY_MS, BYTES_PER_SECOND));
    // Anew each time: what was fetched is kept.
    const socket = join(folder, `http-${i}.sock`);
    made.use(await context.startServe([object.url, '--socket', socket]));
    // Both sides warm, and both serving threads: connections are made, code is compiled.
    const warmUp = { ...run, socket, snapshot: snapshot.path, sizeBytes: CLUSTER_BYTES } as const;
    await client.run({ ...warmUp, touched: 'all', sessions: 2 });
    object.bytesSent = 0;
    const { seconds } = await client.run({ ...run, socket, snapshot: snapshot.path });
    overBound.push(seconds[0]! / (object.bytesSent / BYTES_PER_SECOND + LATENCY_MS / 1000));
    fetched.push(object.bytesSent / (OBJECT_BYTES / 4));
  }
  const name = `HTTP, ${LATENCY_MS} ms and ${BYTES_PER_SECOND / 1e6} MB/s, 25 % in 256 KiB clusters`;
  return [
    { name: `${name}: time / time of its bytes`, unit: '', value: median(overBound), limit: 1.5 },
    { name: `${name}: bytes fetched / bytes touched`, unit: '', value: median(fetched), limit: 2 },
  ];
}

/** Memory of the process after a restore, and how long it takes until a client can come. */
export async function processFigures(context: ServeContext): Promise<Extra[]> {
  const { path, sizeBytes } = context.snapshot(context.size(SIZE_BYTES));
  const { signal, folder } = context;
  const socket = join(folder, 'process.sock');
  const starts: number[] = [];
  let anonymous = 0;
  await using client = new TouchingClient(signal);
  for (let i = 0; i < context.size(STARTS); i++) {
    await using server = await context.startServe([path, '--socket', socket]);
    starts.push(server.startSeconds * 1000);
    if (i > 0) continue;
    await client.run({ socket, memory: 'memfd', sizeBytes, touched: 'all', threads: THREADS, snapshot: path });
    anonymous = anonymousBytes(server.pid);
  }
  const states = sizeBytes / pageSize();
  const value = anonymous + states;
  return [
    { name: 'server memory: RssAnon and page states', unit: 'bytes', value, limit: FIXED_BYTES + states },
    { name: 'process start to listening', unit: 'ms', value: median(starts) },
  ];
}

function anonymousBytes(pid: number): number {
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}
