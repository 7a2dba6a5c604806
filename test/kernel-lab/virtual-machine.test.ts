// How the end of a guest is told. A shell stands in for QEMU, which is given the same arguments.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { outcomeOf } from '../../scripts/kernel-lab/results.js';
import { boot } from '../../scripts/kernel-lab/virtual-machine.js';
import { Workspace } from '../../scripts/kernel-lab/workspace.js';

const cache = mkdtempSync(join(tmpdir(), 'uffd-lab-'));
afterAll(() => {
  rmSync(cache, { recursive: true, force: true });
});
const kernel = { name: 'test', release: '9.9', image: 'vmlinuz', modules: [] };

function guest(script: string, signal = new AbortController().signal) {
  const workspace = new Workspace({ cache, signal, say: () => undefined });
  const machine = {
    kernel,
    initramfs: 'initramfs',
    disk: 'disk',
    words: ['lab.tests=1'],
    megabytes: 64,
    timeoutMs: 2000,
  };
  return boot({ program: 'sh', args: ['-c', script, 'sh'] }, machine, workspace);
}

test.each([
  ['not started', 'echo "SeaBIOS"'],
  ['panicked', 'echo LAB-STARTED 9.9; echo "Kernel panic - not syncing: out of luck"'],
  ['timed out', 'echo LAB-STARTED 9.9; exec sleep 60'],
  ['ended early', 'echo LAB-STARTED 9.9; echo LAB-PROBED; kill -9 $$'],
  // Only a whole line says it.
  ['ended early', 'echo LAB-STARTED 9.9; echo "not LAB-DONE"'],
])('%s: a failure, whatever it printed', async (ending, script) => {
  const ended = await guest(script);
  expect(ended.ending).toBe(ending);
  expect(outcomeOf('test', '9.9', ended, true)).toMatchObject({ status: 'failed' });
});

test('what a guest says it has done, but has not brought back, is a failure', async () => {
  const ended = await guest(
    'tar -c -f "$(echo "$@" | tr " " "\\n" | sed -n "s/.*file=\\(.*results.tar\\),.*/\\1/p")" -T /dev/null; echo LAB-DONE',
  );
  expect(ended.ending).toBe('done');
  expect(outcomeOf('test', '9.9', ended, true)).toMatchObject({
    status: 'failed',
    why: 'another kernel ran: it did not say which',
  });
});

test('cancelled, it ends at once', async () => {
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error('enough')), 100);
  const started = performance.now();
  await expect(guest('exec sleep 60', stop.signal)).rejects.toThrow('enough');
  expect(performance.now() - started).toBeLessThan(1500);
});

test('two labs do not share a cache', async () => {
  const options = { cache: join(cache, 'shared'), signal: new AbortController().signal, say: () => undefined };
  await new Workspace(options).lock();
  await expect(new Workspace(options).lock()).rejects.toThrow('another lab is at work');
});
