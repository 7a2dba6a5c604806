// A queue on a kernel without reads that never wait (test/probe/seccomp.c): prints how often the owner said that it was
// in a call, and what came, for a message of its own and for one that was taken away meanwhile.
import process from 'node:process';
import { Worker } from 'node:worker_threads';
import { Mapping, Userfaultfd, pageSize } from '../../dist/index.js';
import { EventRow, Held, QueueControl } from '../../dist/native/contract.js';
import { native } from '../../dist/native/load.js';

const page = pageSize();
const doubles = (count) => new Float64Array(new SharedArrayBuffer(count * 8));
const [answers, events] = [doubles(64), doubles(64 * EventRow.fields)];
const control = new Int32Array(new SharedArrayBuffer(QueueControl.fields * 4));
const queue = new (native().FaultQueue)(answers, events, control);
const mapping = Mapping.anonymous(2 * page);
mapping.advise('noHugePage');
const uffd = Userfaultfd.open();
const region = uffd.register(mapping, ['missing']);
queue.add(native().duplicateFd(uffd.fd), -1, 7);

/** Rows without the ticks of the queue. */
function waitOnce() {
  for (let waited = 0; waited < 20; waited++) {
    control.set([0, 200, 0]);
    const before = control[QueueControl.ownerCalls];
    queue.answerAndWait();
    const calls = control[QueueControl.ownerCalls] - before;
    const starts = Array.from({ length: control[QueueControl.rowsRead] }, (_, row) =>
      events[row * EventRow.fields + EventRow.slot] < 0 ? -1 : events[row * EventRow.fields + EventRow.start],
    ).filter((start) => start >= 0);
    if (calls > 0 || starts.length > 0) {
      return { calls, pages: starts.map((start) => (start - Number(mapping.address)) / page) };
    }
  }
  return undefined;
}

const reading = mapping.read(0, 1);
const first = waitOnce();
uffd.zeropage({ region, page: 0 });
await reading;

// While this thread waits in the queue.
const meanwhile = `
const { workerData: { control, url, address, page } } = require('node:worker_threads');
const MADV_POPULATE_READ = 22;
import(url).then(({ native }) => {
  Atomics.store(control, ${QueueControl.held}, ${Held.taken});
  native().systemCall('madvise', address, page, MADV_POPULATE_READ);
});`;
const url = new globalThis.URL('../../dist/native/load.js', import.meta.url).href;
const address = Number(mapping.address) + page;
const worker = new Worker(meanwhile, { eval: true, workerData: { control, url, address, page } });
await new Promise((resolve) => worker.once('online', resolve));
const taken = waitOnce();
Atomics.store(control, QueueControl.held, Held.free);
const given = waitOnce();
uffd.zeropage({ region, page: 1 });
await new Promise((resolve) => worker.once('exit', resolve));
process.stdout.write(JSON.stringify({ first, taken, given, inCall: control[QueueControl.ownerCall] }));
