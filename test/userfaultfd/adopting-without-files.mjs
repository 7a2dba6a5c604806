// At the limit of open files: prints why a userfaultfd is not adopted, and what its descriptor is once all is collected.
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Userfaultfd } from '../../dist/index.js';
import { native } from '../../dist/native/load.js';

const uffd = Userfaultfd.open({ userModeOnly: true });
const fd = native().duplicateFd(uffd.fd);
const others = [];
try {
  for (;;) others.push(openSync('/dev/null'));
} catch {
  // One is left for reading what it is, none for a second userfaultfd beside the device.
  closeSync(others.pop());
}
let code;
try {
  Userfaultfd.adopt(fd);
} catch (error) {
  code = error.code;
}
for (const other of others) closeSync(other);
for (let round = 0; round < 3; round++) {
  globalThis.gc();
  await delay(20);
}
console.log(code, readlinkSync(`/proc/self/fd/${fd}`));
