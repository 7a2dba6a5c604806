// The userfaultfd closed under accesses that wait: they read zeroes, and nothing hangs.
import { assert, firstFault, ok, registered } from './common.js';

for (let round = 0; round < 50; round++) {
  const { mapping, uffd } = registered(4);
  const reads = [0, 1, 2, 3].map((index) => mapping.read(index * 4096, 1));
  if (round % 2 === 0) await firstFault(uffd);
  uffd.close();
  uffd.close();
  mapping.unmap();
  mapping.unmap();
  assert.deepEqual(
    (await Promise.all(reads)).map((bytes) => bytes[0]),
    [0, 0, 0, 0],
  );
}
ok();
