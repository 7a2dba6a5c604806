// A worker that rings an eventfd a little later.
import { setTimeout as delay } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../dist/native/load.js';

parentPort.postMessage('ready');
await delay(50);
native().signalEvent(workerData);
