// Objects nobody holds are collected, with their descriptors and mappings; one with a waiting access is not.
import { Memfd, Mapping, Userfaultfd } from '../../../dist/index.js';
import { assert, descriptors, eventually, mappings, ok, page } from './common.js';

function make() {
  const memfd = Memfd.create({ sizeBytes: page, name: 'collected' });
  const mapping = Mapping.map(memfd);
  const uffd = Userfaultfd.open();
  uffd.register(mapping, ['missing']);
  return [memfd, mapping, uffd].map((object) => new WeakRef(object));
}

const references = Array.from({ length: 20 }, make).flat();
await eventually(() => references.every((reference) => reference.deref() === undefined), 'all objects are collected');
await eventually(() => descriptors('userfaultfd') === 0 && descriptors('memfd:') === 0, 'descriptors are closed');
await eventually(() => mappings('memfd:collected') === 0, 'mappings are unmapped');

// An access that runs holds what it needs.
async function accessed() {
  const memfd = Memfd.create({ sizeBytes: 1024 * page, name: 'accessed' });
  const reading = Mapping.map(memfd).read(0, 1024 * page);
  globalThis.gc();
  return (await reading).length;
}
assert.equal(await accessed(), 1024 * page);
await eventually(() => mappings('memfd:accessed') === 0, 'the mapping goes after the access');
ok();
