// A registered mapping that is collected while its userfaultfd is open and nobody reads what becomes of it: the event loop
// goes on, and the event is there for whoever reads later.
import { Mapping, Memfd, Userfaultfd } from '../../../dist/index.js';
import { native } from '../../../dist/native/load.js';
import { assert, eventually, mappings, ok, page, threads } from './common.js';

function make() {
  const mapping = Mapping.map(Memfd.create({ sizeBytes: page, name: 'unread' }));
  const uffd = Userfaultfd.open({ features: ['eventUnmap'] });
  uffd.register(mapping, ['missing']);
  return { fd: native().duplicateFd(uffd.fd), start: mapping.address };
}

const before = threads();
const { fd, start } = make();
await eventually(() => mappings('memfd:unread') === 0, 'the mapping is unmapped');
assert.equal(threads(), before + 1);
const uffd = Userfaultfd.adopt(fd);
for await (const event of uffd) {
  assert.deepEqual(event, { type: 'unmap', start, end: start + BigInt(page) });
  break;
}
uffd.close();
await eventually(() => threads() === before, 'the thread that unmapped it ends');
ok();
