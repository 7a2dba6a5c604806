// Descriptors and files on a file system that hangs (FUSE): neither the server nor another session may hang with it.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { Serve, compiled, patternFile, patternOf, run, temporaryFolder, touches, uffd, until } from './support.js';
import { native } from '../../dist/native/load.js';
import { within } from '../support/deadline.js';
import { PAGE } from '../support/memory.js';
import { lacks, requires } from '../support/requires.js';

const PAGES = 256;
const DELAY_MS = 1500;
const CLOSE_MS = 4000;
const folder = temporaryFolder();
const mount = join(folder, 'mount');
/** A line for each slow read, written before anybody can go on who waits for it. */
const slowLog = join(folder, 'slow.txt');
const client = compiled('hostile-client.c');

/** The file in it. Unmounted at the end of the file. */
async function mounted(at: string, ...args: string[]): Promise<{ fuse: ChildProcess; file: string }> {
  const program = compiled('slow-fuse.c');
  mkdirSync(at);
  const fuse = spawn(program, [`${PAGES}`, `${DELAY_MS}`, at, ...args], {
    stdio: ['ignore', openSync(slowLog, 'w'), 'ignore'],
  });
  unmounts.push(() => {
    fuse.kill('SIGKILL');
    execFileSync('umount', ['-l', at], { stdio: 'ignore' });
  });
  const file = join(at, 'snapshot');
  await until(() => existsSync(file));
  return { fuse, file };
}

const unmounts: (() => void)[] = [];
afterAll(() => {
  for (const unmount of unmounts) unmount();
});

describe('a FUSE file system that is slow', () => {
  const file = join(mount, 'snapshot');

  beforeEach((context) => {
    requires(context, 'uffd', 'root', 'fuse', 'libfuse3-dev');
  });

  beforeAll(async () => {
    if (lacks('fuse', 'libfuse3-dev', 'root')) return;
    await mounted(mount);
  });

  it.each([
    ['given-memory', /"refused".*neither a memfd nor a guest_memfd but .*snapshot/],
    ['given-fourth', /"refused".*too many descriptors/],
  ])('%s: refused, and its slow close(2) holds nobody up', async (mode, reason) => {
    const serve = await Serve.start(patternFile(folder, 8), join(folder, `${mode}.sock`));
    const started = performance.now();
    // The clients themselves end only when their own close(2) returns.
    const hostile = [1, 2, 3].map(() => run(client, [mode, serve.socket, '8', file]));
    await until(() => serve.events.filter(({ event }) => event === 'refused').length === 3);
    expect((await uffd(['touch', '--socket', serve.socket, '--size', '32K', '--json'])).code).toBe(0);
    expect(performance.now() - started).toBeLessThan(CLOSE_MS);
    for (const { stdout } of await Promise.all(hostile)) expect(stdout).toMatch(reason);
    expect(performance.now() - started).toBeGreaterThan(CLOSE_MS);
    expect(await serve.stop()).toBe(0);
  });

  it('mapped: a worker ends while an access of its waits for a page, which nothing calls back from there', async () => {
    const script = `
      const { parentPort, workerData: { fd, size, url } } = require('node:worker_threads');
      import(url).then(({ Mapping }) => {
        const mapping = Mapping.file(fd, { lengthBytes: size, protection: 'read' });
        void mapping.read(size - 1, 1);
        parentPort.postMessage('reading');
      });`;
    const url = new URL('../../dist/index.js', import.meta.url).href;
    const fd = openSync(file, 'r');
    const worker = new Worker(script, { eval: true, workerData: { fd, size: PAGES * PAGE, url } });
    await within(once(worker, 'message'), 'the access');
    await new Promise((resolve) => setTimeout(resolve, 200));
    const slowReads = readFileSync(slowLog, 'utf8');
    await worker.terminate();
    expect(readFileSync(slowLog, 'utf8')).toBe(slowReads);
    // The thread that was left behind comes to its end in a process that goes on.
    await until(() => readFileSync(slowLog, 'utf8') !== slowReads);
    native().closeDetached(fd);
  });

  it('as the source: pages that are slow for one session do not slow another', async () => {
    const serve = await Serve.start(file, join(folder, 'source.sock'), '--fault-around', '1');
    const slow = run(client, ['last-first', serve.socket, `${PAGES}`], { timeoutMs: 10_000 });
    await serve.event('session');
    await new Promise((resolve) => setTimeout(resolve, 100));
    const others = await Promise.all([1, 2].map(() => run(client, ['normal', serve.socket, `${PAGES / 4}`])));
    for (const { stdout, seconds } of others) {
      expect(touches(stdout, 'page')).toEqual(Array.from({ length: PAGES / 4 }, (_, page) => patternOf(page)));
      expect(seconds).toBeLessThan(DELAY_MS / 1000);
    }
    const { stdout, seconds } = await slow;
    expect(touches(stdout, 'page').at(-1)).toBe(patternOf(PAGES - 1));
    expect(seconds).toBeGreaterThan(DELAY_MS / 1000);
    serve.kill('SIGKILL');
  });
});

it('a source that hangs: the server ends all the same, when its time for completing is over', async (context) => {
  requires(context, 'uffd', 'root', 'fuse', 'libfuse3-dev');
  // Without anything to do in close(2): that of a process that ends would wait for a dead file system whoever ends it.
  const { fuse, file } = await mounted(join(folder, 'hanging'), '-1');
  closeSync(openSync(file, 'r'));
  const serve = await Serve.start(file, join(folder, 'hangs.sock'), '--drain-timeout', '300ms');
  fuse.kill('SIGSTOP');
  onTestFinished(() => void fuse.kill('SIGCONT'));
  // Waits for ever: nobody brings its page.
  void run(client, ['normal', serve.socket, `${PAGES}`], { timeoutMs: 25_000 });
  await serve.event('session');
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(await serve.stop()).toBe(1);
  expect(serve.stderr).toMatch(/not drained in time: session 1/);
}, 60_000);
