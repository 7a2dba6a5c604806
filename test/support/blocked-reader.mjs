// A worker that sleeps in read(2) of a userfaultfd until it has got a message or is told to end.
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../dist/native/load.js';

const reader = new (native().BlockingReader)(workerData.fd);
const stop = new Int32Array(workerData.stop);
const buffer = new Uint8Array(64 * 32);
let messages = 0;
parentPort.postMessage('reading');
while (Atomics.load(stop, 0) === 0) messages += Math.max(0, reader.read(buffer));
reader.close();
parentPort.postMessage(messages);
