// Twenty workers in a row, each terminated while an access waits, then used from here: nothing adds up.
import { Worker } from 'node:worker_threads';
import { assert, descriptors, eventually, firstFault, ok, registered, threads } from './common.js';

const before = threads();
for (let i = 0; i < 20; i++) {
  const workerData = { state: 'blocked in a fault', ending: 'terminate' };
  const worker = new Worker(new globalThis.URL('../worker.mjs', import.meta.url), { workerData });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await worker.terminate();
}
await eventually(() => descriptors('userfaultfd') === 0, 'descriptors of the workers');
await eventually(() => threads() <= before, 'threads of the workers');
const { mapping, uffd } = registered(1);
const reading = mapping.read(0, 1);
uffd.zeropage(await firstFault(uffd));
assert.equal((await reading)[0], 0);
ok();
uffd.close();
