// An access that waits keeps the process alive, until it is aborted.
import { assert, delay, firstFault, ok, page, registered } from './common.js';

const { mapping, uffd } = registered(1);
const controller = new globalThis.AbortController();
const reading = mapping.read(0, page, { signal: controller.signal });
await firstFault(uffd);
globalThis.setTimeout(() => controller.abort(new Error('enough')), 100).unref();
await assert.rejects(reading, /enough/);
await delay(1);
ok();
// Nothing closes the userfaultfd: an open descriptor keeps no process alive.
