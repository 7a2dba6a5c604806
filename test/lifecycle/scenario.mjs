// `scenario.mjs ENDING STATE [COUNT]`: reaches a state in workers or on the main thread and ends in the given way.
import process from 'node:process';
import { Worker } from 'node:worker_threads';
import { native } from '../../dist/native/load.js';
import { blockingStates, states } from './states.mjs';

const [, , ending, state, count = '1'] = process.argv;
const rings = [];

/** What the owner of a worker that waits in the addon must do before it ends it. */
function ring() {
  for (const { wakeFd, stop } of rings) {
    Atomics.store(stop, 0, 1);
    native().signalEvent(wakeFd);
  }
}

async function workerIn(ofState) {
  const worker = new Worker(new globalThis.URL('./worker.mjs', import.meta.url), {
    workerData: { state: ofState, ending },
  });
  const exited = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (message) => {
      if (typeof message === 'object') rings.push(message);
      resolve();
    });
  });
  return { worker, exited };
}

async function endWorkers(workers) {
  if (ending === 'worker exits') return Promise.all(workers.map(({ exited }) => exited));
  const terminated = Promise.all(workers.map(({ worker }) => worker.terminate()));
  ring();
  return terminated;
}

if (ending.startsWith('main')) {
  globalThis.kept = await states[state]();
} else {
  const workers = await Promise.all(Array.from({ length: Number(count) }, () => workerIn(state)));
  if (ending === 'process exits') process.on('exit', ring);
  else await endWorkers(workers);
}
process.stdout.write(`${state in blockingStates ? 'rung' : 'reached'}\n`);
if (ending === 'process exits' || ending === 'main exits') process.exit(0);
