// Reaches a state, says so, and stays, or exits by itself.
import process from 'node:process';
import { parentPort, workerData } from 'node:worker_threads';
import { blockingStates, states } from './states.mjs';

const { state, ending } = workerData;
globalThis.kept = state in blockingStates ? blockingStates[state]() : await states[state]();
parentPort.postMessage('reached');
if (ending === 'worker exits') process.exit(0);
// Stays until it is terminated.
parentPort.on('message', () => undefined);
