// An iteration that is never resumed is collected; one that waits stays, and still hears its fault.
import { Mapping, Userfaultfd } from '../../../dist/index.js';
import { assert, descriptors, eventually, ok, page, registered } from './common.js';

async function abandoned() {
  const { uffd, mapping } = registered(1);
  const reading = mapping.read(0, 1);
  const iterator = uffd.events();
  await iterator.next();
  uffd.close();
  await reading;
}
for (let i = 0; i < 10; i++) await abandoned();
await eventually(() => descriptors('userfaultfd') === 0, 'closed');

const mapping = Mapping.anonymous(page);
let answered = false;
(() => {
  const uffd = Userfaultfd.open();
  uffd.register(mapping, ['missing']);
  void (async () => {
    for await (const fault of uffd) {
      uffd.zeropage(fault);
      answered = true;
      break;
    }
    uffd.close();
  })();
})();
for (let i = 0; i < 5; i++) globalThis.gc();
await mapping.read(0, 1);
assert.ok(answered);
ok();
