// One row: `uffd serve` and the C handler by turns, for the same client.
import { join } from 'node:path';
import { type Contestant, type Measured, alternate } from '../contestant.js';
import { Cleanup } from '../cleanup.js';
import { TouchingClient } from './client.js';
import { ReferenceProcess } from './reference.js';
import type { ServeContext } from './serve-context.js';
import { SIZE_BYTES, type ServeTrial, THREADS } from './trials.js';

class Side implements Contestant {
  readonly #client: TouchingClient;
  readonly #run: Parameters<TouchingClient['run']>[0];

  constructor(client: TouchingClient, context: ServeContext, { memory, touched }: ServeTrial, socket: string) {
    this.#client = client;
    const { path: snapshot, sizeBytes } = context.snapshot(context.size(SIZE_BYTES));
    this.#run = { socket, memory, sizeBytes, touched, threads: THREADS, snapshot };
  }

  async run(): Promise<{ seconds: number }> {
    const { seconds } = await this.#client.run(this.#run);
    return { seconds: seconds[0]! };
  }
}

export async function runCompared(context: ServeContext, trial: ServeTrial): Promise<Measured[]> {
  const { path } = context.snapshot(context.size(SIZE_BYTES));
  const { signal, folder } = context;
  await using made = new Cleanup();
  const reference = made.use(await ReferenceProcess.start(path, join(folder, 'c.sock'), signal));
  const socket = join(folder, 'serve.sock');
  if (trial.control !== true) {
    const replay = trial.replay ? await recorded(context, trial) : [];
    made.use(await context.startServe([path, '--socket', socket, ...replay]));
  }
  // After the servers, which would complete the memory of a client that is there when they are told to end.
  const client = made.use(new TouchingClient(signal));
  const theirs = new Side(client, context, trial, reference.socket);
  const ours = trial.control === true ? theirs : new Side(client, context, trial, socket);
  const row = { name: trial.name, unit: 's', time: 'seconds', reach: trial.reach };
  return await alternate(ours, theirs, [row], context.size(trial.repetitions));
}

/** What the client asks for, recorded in a run of its own. */
async function recorded(context: ServeContext, trial: ServeTrial): Promise<string[]> {
  const { path } = context.snapshot(context.size(SIZE_BYTES));
  const record = join(context.folder, `${trial.memory}-${trial.touched}.json`);
  const socket = join(context.folder, 'record.sock');
  await using made = new Cleanup();
  made.use(await context.startServe([path, '--socket', socket, '--record', record]));
  await new Side(made.use(new TouchingClient(context.signal)), context, trial, socket).run();
  return ['--replay', record];
}
