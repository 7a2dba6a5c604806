// The thread behind OtherThread.
import { parentPort } from 'node:worker_threads';
import { native } from '../native/load.js';
import type { ThreadCall } from './other-thread.js';

parentPort?.on('message', (call: ThreadCall) => {
  parentPort?.postMessage(
    'fork' in call ? native().forkChild(call.fork) : native().systemCall(call.name, ...call.args),
  );
});
