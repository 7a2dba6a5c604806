// Closing a userfaultfd while another thread sleeps in read(2) of the same one: neither waits for the other, and who waits
// for a page goes on once the last of them has let go.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { deadline, within } from '../support/deadline.js';
import { PAGE, anonymousMapping, userfaultfd } from '../support/memory.js';
import { duplicate } from '../support/native.js';
import { requires } from '../support/requires.js';

test('close while another thread waits in read', async (context) => {
  requires(context, 'uffd');
  const mapping = anonymousMapping(1);
  const uffd = userfaultfd();
  uffd.register(mapping, ['missing']);
  const stop = new SharedArrayBuffer(4);
  const worker = new Worker(new URL('../support/blocked-reader.mjs', import.meta.url), {
    workerData: { fd: duplicate(uffd.fd), stop },
  });
  onTestFinished(async () => {
    await worker.terminate();
  });
  await within(once(worker, 'message'), 'the reader');
  await delay(50);
  const before = performance.now();
  uffd.close();
  expect(performance.now() - before).toBeLessThan(1000);
  // The other descriptor keeps the registration: its reader is told of a fault.
  let touched = false;
  const touching = mapping.touch(0, PAGE, { signal: deadline() }).then(() => (touched = true));
  await delay(50);
  expect(touched).toBe(false);
  Atomics.store(new Int32Array(stop), 0, 1);
  const [messages] = (await within(once(worker, 'message'), 'the end of the reader')) as [number];
  expect(messages).toBe(1);
  await within(touching, 'the touch');
});
