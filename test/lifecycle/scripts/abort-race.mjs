// Aborts racing with answers: every access ends once, done or aborted, and no thread is left.
import { AssertionError } from 'node:assert';
import { assert, eventually, ok, page, registered, threads } from './common.js';

const before = threads();
const { mapping, uffd } = registered(400);
let served = 0;
const serving = (async () => {
  for await (const fault of uffd) {
    uffd.zeropage(fault);
    served++;
  }
})();
let done = 0;
let aborted = 0;
for (let round = 0; round < 20; round++) {
  const accesses = Array.from({ length: 20 }, (_, index) => {
    const controller = new globalThis.AbortController();
    globalThis.setTimeout(() => controller.abort('late'), index % 3);
    return mapping.touch((round * 20 + index) * page, page, { signal: controller.signal });
  });
  for (const { status, reason } of await Promise.allSettled(accesses)) {
    if (status === 'fulfilled') done++;
    else if (reason === 'late') aborted++;
    else throw new AssertionError({ message: String(reason) });
  }
}
uffd.close();
await serving;
assert.equal(done + aborted, 400);
assert.ok(served > 0);
await eventually(() => threads() <= before + 1, 'the threads end');
ok();
