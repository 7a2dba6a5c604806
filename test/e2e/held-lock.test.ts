// A client that holds the lock of its own address space for seconds: only a file system of its own can make it wait so
// long inside mmap(2). Everybody else is served meanwhile, whatever the server has to ask the kernel about it.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { once } from 'node:events';
import { FaultServer, HandoffListener, Mapping, Memfd, Userfaultfd, handOff, objectSource } from 'userfaultfd';
import { native } from '../../dist/native/load.js';
import { gated } from '../server/support.js';
import { within } from '../support/deadline.js';
import { PAGE } from '../support/memory.js';
import { lacks, requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';
import { Serve, compiled, patternFile, patternOf, run, temporaryFolder, touches, uffd, until } from './support.js';

const PAGES = 64;
const HELD_MS = 5000;
const folder = temporaryFolder();
const mount = join(folder, 'mount');
/** A line for each slow read, written before anybody can go on who waits for it. */
const slowLog = join(folder, 'slow.txt');
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
let fuse: ChildProcess | undefined;

beforeEach((context) => {
  requires(context, 'uffd', 'root', 'fuse', 'libfuse3-dev');
});

beforeAll(async () => {
  if (lacks('fuse', 'libfuse3-dev', 'root')) return;
  mkdirSync(mount);
  fuse = spawn(compiled('slow-fuse.c'), ['8', `${HELD_MS}`, mount, '0'], {
    stdio: ['ignore', openSync(slowLog, 'w'), 'ignore'],
  });
  await until(() => existsSync(join(mount, 'snapshot')));
});

afterAll(() => {
  if (fuse === undefined) return;
  fuse.kill('SIGKILL');
  execFileSync('umount', ['-l', mount], { stdio: 'ignore' });
});

// Whose socket is closed is asked again and again whether anything of it is left.
it.each(['holds', 'hangs-up-and-holds'])(
  '%s: another session of its worker is served meanwhile, it itself afterwards',
  async (mode) => {
    const socket = join(folder, `${mode}.sock`);
    const serve = await Serve.start(patternFile(folder, PAGES), socket, '--fault-around', '1', '--workers', '1');
    let ended = false;
    const holding = run(compiled('restless-client.c'), [mode, socket, `${PAGES}`, join(mount, 'snapshot')]);
    void holding.then(() => (ended = true));
    await serve.event('session');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const other = await run(compiled('hostile-client.c'), ['normal', socket, `${PAGES}`]);
    expect(touches(other.stdout, 'page')).toEqual(content);
    // Would have ended by now, had both waited for the same.
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(ended).toBe(false);
    const { stdout, code } = await holding;
    expect(stdout).toMatch(/^held 1$/m);
    expect(touches(stdout, 'page')).toEqual(content);
    expect(code).toBe(0);
    expect(serve.events.filter(({ event }) => event === 'unserved' || event === 'parked')).toEqual([]);
    expect(await serve.stop()).toBe(0);
  },
);

// Pages of private memory that was never touched, and a registration, need the lock.
it.each([
  ['holds-private', ['--background-fill']],
  ['holds-shared', ['--fill', 'continue']],
])('%s: sessions that its worker had before, and new ones, go on at another worker', async (mode, options) => {
  const socket = join(folder, `${mode}.sock`);
  const serve = await Serve.start(
    patternFile(folder, PAGES),
    socket,
    '--fault-around',
    '1',
    '--workers',
    '1',
    ...options,
  );
  const shared = mode === 'holds-shared';
  // That of the session which moves: the new worker writes to it.
  using memfd = Memfd.create({ sizeBytes: PAGES * PAGE });
  memfd.addSeals('shrink');
  using mapping = shared ? Mapping.map(memfd) : Mapping.anonymous(PAGES * PAGE);
  using userfaultfd = Userfaultfd.open({ features: ['eventRemove'] });
  userfaultfd.register(mapping, shared ? ['missing', 'minor'] : ['missing']);
  const mappings = [{ mapping, offset: 0 }];
  using handoff = await handOff(socket, { userfaultfd, mappings, ...(shared && { memfd }) });
  const read = async (page: number) =>
    new Set(await mapping.read(page * PAGE, PAGE, { signal: AbortSignal.timeout(3000) }));
  if (shared) {
    // Dropped, so that the new worker has to know of it.
    expect(await read(1)).toEqual(new Set([patternOf(1)]));
    mapping.advise('remove', PAGE, PAGE);
  }

  let ended = false;
  const holding = run(compiled('restless-client.c'), [mode, socket, `${PAGES}`, join(mount, 'snapshot')]);
  void holding.then(() => (ended = true));
  const { session, moved } = await serve.event('held', {}, 5000);
  expect({ session, moved }).toEqual({ session: 2, moved: 1 });
  for (let page = 2; page < PAGES; page++) expect(await read(page)).toEqual(new Set([patternOf(page)]));
  if (shared) expect(await read(1)).toEqual(new Set([0]));
  const other = await run(compiled('hostile-client.c'), ['normal', socket, `${PAGES}`]);
  expect(touches(other.stdout, 'page')).toEqual(content);
  const status = await uffd(['serve', '--status', '--socket', socket, '--json']);
  expect(JSON.parse(status.stdout)).toMatchObject({ silent: [session] });
  expect(ended).toBe(false);

  const { stdout, code } = await holding;
  expect(touches(stdout, 'page')).toEqual(content);
  expect(code).toBe(0);
  expect(serve.events.filter(({ event }) => ['unserved', 'parked', 'refused', 'error'].includes(event))).toEqual([]);
  expect(await serve.stop()).toBe(0);
  expect(await handoff.done).toBe('drained');
});

it('a process that holds its worker has its further sessions there, and holds no other one', async () => {
  const socket = join(folder, 'twice.sock');
  const options = ['--fault-around', '1', '--workers', '1', '--background-fill'];
  const serve = await Serve.start(patternFile(folder, PAGES), socket, ...options);
  using mapping = Mapping.anonymous(PAGES * PAGE);
  using userfaultfd = Userfaultfd.open();
  userfaultfd.register(mapping, ['missing']);
  using handoff = await handOff(socket, { userfaultfd, mappings: [{ mapping, offset: 0 }] });
  expect(handoff.session).toBe(1);
  const holding = run(compiled('restless-client.c'), ['holds-twice', socket, `${PAGES}`, join(mount, 'snapshot')]);
  await serve.event('held', { session: 2, moved: 1 }, 5000);
  const status = async () => {
    const { stdout } = await uffd(['serve', '--status', '--socket', socket, '--json']);
    return JSON.parse(stdout) as { silent: number[] };
  };
  await expect.poll(async () => (await status()).silent, { timeout: 4000 }).toEqual([2, 3]);
  for (let page = 0; page < PAGES; page++)
    expect((await mapping.read(page * PAGE, 1, { signal: AbortSignal.timeout(3000) }))[0]).toBe(patternOf(page));
  const { stdout } = await holding;
  expect(stdout).toMatch(/^one more$/m);
  expect(touches(stdout, 'page')).toEqual(content);
  expect(serve.events.filter(({ event }) => event === 'held')).toHaveLength(1);
  expect(await serve.stop()).toBe(0);
});

it('a snapshot whose lease is broken while a client holds its lock: no byte of what was written since', async () => {
  const slower = join(folder, 'slower');
  mkdirSync(slower);
  const other = spawn(compiled('slow-fuse.c'), ['8', '9000', slower, '0'], { stdio: 'ignore' });
  const breakTime = readFileSync('/proc/sys/fs/lease-break-time', 'utf8');
  try {
    await until(() => existsSync(join(slower, 'snapshot')));
    writeFileSync('/proc/sys/fs/lease-break-time', '5');
    const socket = join(folder, 'broken.sock');
    const snapshot = patternFile(folder, PAGES, 'written');
    const options = ['--fault-around', '1', '--workers', '1', '--fault-deadline', '1s'];
    const serve = await Serve.start(snapshot, socket, ...options);
    // All of its pages are waited for when it is handed over.
    const pages = 8;
    const args = ['holds-waiting', socket, `${pages}`, join(slower, 'snapshot')];
    const holding = run(compiled('restless-client.c'), args);
    await serve.event('session');
    // On another thread: it waits for the lease.
    const file = await open(snapshot, 'r+');
    await file.writeFile(Buffer.alloc(PAGES * PAGE, 255));
    await file.close();
    const { stdout } = await holding;
    const seen = touches(stdout, 'page');
    expect(seen).toHaveLength(pages);
    // Absent pages are poisoned. One at most was being shown when it waited; it is right, or its session is parked.
    const right = seen.filter((value, page) => value === patternOf(page) || value === -1).length;
    expect(right).toBeGreaterThanOrEqual(pages - 1);
    if (right < pages) await serve.event('parked');
    await serve.event('source-failed');
    await serve.stop();
  } finally {
    writeFileSync('/proc/sys/fs/lease-break-time', breakTime);
    other.kill('SIGKILL');
    execFileSync('umount', ['-l', slower], { stdio: 'ignore' });
  }
});

/** A client that has sent its last userfaultfd, and holds the lock that closing it waits for. */
function givesAndHolds(path: string): ChildProcess {
  const output = join(folder, 'output.txt');
  const child = spawn(compiled('restless-client.c'), ['gives-and-holds', path, '1', join(mount, 'snapshot')], {
    stdio: ['ignore', openSync(output, 'w'), 'inherit'],
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
  // Without the event loop, where it would be accepted.
  for (let waited = 0; readFileSync(output, 'utf8') === '' && waited < 8000; waited += 10) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  }
  expect(readFileSync(output, 'utf8')).toBe('sent\n');
  return child;
}

it('receive() does not wait for that lock with descriptors that are too many', async () => {
  const path = join(folder, 'surplus.sock');
  const listener = new (native().UnixSocket)(native().UnixSocket.listen(path, 1));
  const before = openDescriptors('userfaultfd');
  const slowReads = readFileSync(slowLog, 'utf8');
  const holding = givesAndHolds(path);
  const connection = new (native().UnixSocket)(listener.accept());
  const [, truncated, ...descriptors] = connection.receive(new Uint8Array(PAGE)) as [number, boolean, ...number[]];
  expect(readFileSync(slowLog, 'utf8')).toBe(slowReads);
  expect({ truncated, count: descriptors.length }).toEqual({ truncated: true, count: 3 });
  for (const fd of descriptors) native().closeFd(fd);
  connection.closeDetached();
  listener.close();
  await once(holding, 'exit');
  await expect.poll(() => openDescriptors('userfaultfd')).toBe(before);
});

it('a listener that is closed does not wait for that lock with what it has not accepted', async () => {
  const path = join(folder, 'unaccepted.sock');
  await using server = await FaultServer.start({ source: objectSource(gated(0), { sizeBytes: PAGE }), workers: 1 });
  const listener = new HandoffListener(server, { path });
  const slowReads = readFileSync(slowLog, 'utf8');
  const holding = givesAndHolds(path);
  listener.close();
  expect(readFileSync(slowLog, 'utf8')).toBe(slowReads);
  expect(existsSync(path)).toBe(false);
  await once(holding, 'exit');
});

it('a fault that the held worker has read already is answered by the other one', async () => {
  const socket = join(folder, 'read-already.sock');
  const source = gated(0);
  const sizeBytes = PAGES * PAGE;
  const spec = objectSource(source, { sizeBytes });
  await using server = await FaultServer.start({ source: spec, workers: 1, faultAround: 1, fill: 'continue' });
  using listener = new HandoffListener(server, { path: socket });
  using mapping = Mapping.anonymous(sizeBytes);
  using userfaultfd = Userfaultfd.open({ features: [] });
  userfaultfd.register(mapping, ['missing']);
  using handoff = await handOff(listener.path, { userfaultfd, mappings: [{ mapping, offset: 0 }] });
  expect(handoff.session).toBe(1);
  const reading = mapping.read(7 * PAGE, PAGE, { signal: AbortSignal.timeout(8000) });
  await within(source.asked, 'the fetch');
  const held = once(server, 'held');
  const holding = run(compiled('restless-client.c'), ['holds-shared', socket, `${PAGES}`, join(mount, 'snapshot')]);
  const accepted = once(server, 'attached');
  expect(await within(held, 'the hold')).toEqual([[2], 1]);
  source.open();
  expect(new Set(await reading)).toEqual(new Set([patternOf(7)]));
  // Its message came twice; the holder's worker has nothing to say now.
  const [late] = (await server.summaries()).map(({ session, faults }) => ({ session, faults }));
  expect(late).toEqual({ session: 1, faults: 2 });
  await accepted;
  const { stdout } = await holding;
  expect(touches(stdout, 'page')).toEqual(content);
});
