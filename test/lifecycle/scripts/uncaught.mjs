// What a callback of the addon throws is an uncaught exception like any other, and the loop goes on.
import process from 'node:process';
import { native } from '../../../dist/native/load.js';
import { assert, ok, registered } from './common.js';

const { uffd, mapping } = registered(1);
const caught = new Promise((resolve) => process.once('uncaughtException', resolve));
const watcher = new (native().FdWatcher)(uffd.fd, () => {
  watcher.close();
  throw new Error('of the consumer');
});
const reading = mapping.read(0, 1);
assert.equal((await caught).message, 'of the consumer');
for await (const fault of uffd) {
  uffd.zeropage(fault);
  break;
}
assert.equal((await reading)[0], 0);
uffd.close();
watcher.close();
ok();
