// Clones of one snapshot: real processes that map the server's memory private and fault.
import { closeSync, existsSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fillBacking } from '../../dist/sources/backing.js';
import { MemoryCgroup } from '../support/memory-cgroup.js';
import { requires } from '../support/requires.js';
import {
  Serve,
  compiled,
  mainScript,
  patternFile,
  patternOf,
  run,
  temporaryFolder,
  touches,
  uffd,
  until,
} from './support.js';

const PAGES = 300;
const SIZE = PAGES * 4096;
const folder = temporaryFolder();
const snapshot = patternFile(folder, PAGES);
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const client = compiled('clone-client.c');
const at = (name: string) => join(folder, name);
let serve: Serve;

beforeAll(async () => {
  serve = await Serve.start(snapshot, at('clones.sock'), '--dialect', 'clones');
});

afterAll(async () => {
  expect(await serve.stop()).toBe(0);
});

const clone = (mode: string, options = {}, socket = serve.socket) =>
  run(client, [mode, socket, `${SIZE}`], { timeoutMs: 10_000, ...options });

interface SessionStatus {
  session: number;
  sharedBytes?: number;
  privateBytes?: number;
}
async function status(socket = serve.socket): Promise<SessionStatus[]> {
  const { stdout } = await uffd(['serve', '--status', '--socket', socket, '--json']);
  return (JSON.parse(stdout) as { sessions: SessionStatus[] }).sessions;
}

describe('a clone', () => {
  it('is given the memory first, complete, and reads the content', async () => {
    expect(serve.events[0]).toMatchObject({ event: 'backing', sizeBytes: SIZE, filledBytes: SIZE });
    expect(serve.events[1]).toMatchObject({ event: 'listening' });
    const { stdout, code } = await clone('look');
    expect(stdout).toMatch(/^greeting FCVM_UFFD_MINOR_BACKING$/m);
    expect(touches(stdout, 'page')).toEqual(content);
    expect(code).toBe(0);
    const { session } = await serve.event('session', { dialect: 'clones' });
    const { stats } = (await serve.event('detached', { session })) as unknown as { stats: { faults: number } };
    // Every page is in memory: a window of them is one answer.
    expect(stats.faults).toBeLessThan(PAGES / 32);
  });

  it('can change nothing of what the others see', async () => {
    const { stdout, code } = await clone('tamper');
    expect(stdout.match(/^(pwrite|truncate|reopened|punched|mapped) 1$/gm)).toHaveLength(5);
    expect(touches(stdout, 'page')).toEqual(content);
    expect(code).toBe(0);
  });

  it('writes to pages of its own; what it shares and what not is told', async () => {
    const before = serve.events.filter(({ event }) => event === 'session').length;
    const writing = clone('write', { timeoutMs: 4000 });
    const staying = clone('stay', { timeoutMs: 4000 });
    await until(() => serve.events.filter(({ event }) => event === 'session').length === before + 2);
    const told = async () => (await status()).map(({ sharedBytes, privateBytes }) => ({ sharedBytes, privateBytes }));
    const half = { sharedBytes: SIZE / 2, privateBytes: SIZE / 2 };
    const deadline = performance.now() + 3000;
    while (performance.now() < deadline) {
      if ((await told()).some((one) => one.privateBytes === half.privateBytes && one.sharedBytes === half.sharedBytes))
        break;
    }
    expect(await told()).toEqual(expect.arrayContaining([half, { sharedBytes: SIZE, privateBytes: 0 }]));
    expect(touches((await clone('look')).stdout, 'page')).toEqual(content);
    expect(touches((await writing).stdout, 'page')).toEqual(content.map((value, i) => (i % 2 === 0 ? 255 : value)));
    expect(touches((await staying).stdout, 'page')).toEqual(content);
  });

  it('gets zeroes for what it has dropped, never the content again', async () => {
    const { stdout, code } = await clone('drop');
    expect(stdout).not.toMatch(/wrong|failed/);
    expect(touches(stdout, 'page')).toEqual(content.map(() => 0));
    expect(code).toBe(0);
  });

  it('gets zeroes for what it has dropped from a server that is gone too', async () => {
    const other = await Serve.start(snapshot, at('drained.sock'), '--dialect', 'clones');
    const ended = clone('drop-then-drained', {}, other.socket);
    await other.event('session');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await other.stop()).toBe(0);
    const { stdout, code } = await ended;
    expect(touches(stdout, 'page')).toEqual(content.map((value, page) => (page < PAGES / 2 ? 0 : value)));
    expect(code).toBe(0);
  });

  it.each([
    ['no-page-size', /page_size/],
    ['huge-page-size', /pages of 4096 bytes, page_size is 2097152|multiples of page_size/],
    ['two-descriptors', /a clone has no memory to give/],
    ['anonymous', /has not mapped the memory that it was given/],
  ])('%s: refused', async (mode, reason) => {
    const { stdout } = await clone(mode);
    expect(stdout).toMatch(/"event":"refused"/);
    expect(stdout).toMatch(reason);
  });

  it('that has mapped another memfd never sees zeroes: parked, and the policy acts', async () => {
    const other = await Serve.start(snapshot, at('other.sock'), '--dialect', 'clones', '--fault-deadline', '300ms');
    const { stdout, signal } = await clone('other-memfd', {}, other.socket);
    expect(touches(stdout, 'page')).toEqual([]);
    expect(signal).toBe('SIGBUS');
    const { reason } = await other.event('parked');
    expect(reason).toMatch(/has not mapped the memory that it was given/);
    await other.event('unserved', { action: 'poison', page: 0, reason });
    expect(await other.stop()).toBe(0);
  });

  it('that leaves without an answer is refused, and nothing is left of it', async () => {
    const refused = () => serve.events.filter(({ event }) => event === 'refused').length;
    const before = refused();
    await clone('leave');
    await until(() => refused() === before + 1);
  });
});

describe('sockets of both kinds', () => {
  it('one snapshot, one process: --dialect PATH=clones', async () => {
    const [plain, clones] = [at('plain.sock'), at('one.sock')];
    const both = await Serve.startPairs(
      [`${plain}=${snapshot}`, `${clones}=${snapshot}`],
      '--dialect',
      `${clones}=clones`,
    );
    await both.event('listening', { socket: clones });
    const [cloned, touched] = await Promise.all([
      clone('look', {}, clones),
      uffd(['touch', '--socket', plain, '--size', `${SIZE}`, '--json']),
    ]);
    expect(touches(cloned.stdout, 'page')).toEqual(content);
    expect(touched.code).toBe(0);
    expect(await both.stop()).toBe(0);
  });
});

describe('the memory of the clones', () => {
  it('holes of a sparse snapshot take no memory, and are zeroes', async () => {
    const sparse = at('sparse');
    const fd = openSync(sparse, 'w');
    ftruncateSync(fd, SIZE - 1);
    const written = new Set([8, 9, 10, 11, 100, PAGES - 1]);
    for (const page of written)
      writeSync(fd, Buffer.alloc(page === PAGES - 1 ? 4095 : 4096, patternOf(page)), 0, undefined, page * 4096);
    closeSync(fd);
    const other = await Serve.start(sparse, at('sparse.sock'), '--dialect', 'clones');
    expect(other.events[0]).toMatchObject({ event: 'backing', sizeBytes: SIZE - 1, filledBytes: 6 * 4096 - 1 });
    for (const mode of ['look', 'look']) {
      const { stdout } = await clone(mode, {}, other.socket);
      expect(touches(stdout, 'page')).toEqual(content.map((value, page) => (written.has(page) ? value : 0)));
    }
    expect(await other.stop()).toBe(0);
  });

  it('is refused when it does not fit, before anybody can come', async (context) => {
    requires(context, 'root', 'memory-cgroup');
    using cgroup = new MemoryCgroup(256 * 2 ** 20);
    const big = patternFile(folder, (300 * 2 ** 20) / 4096, 'big');
    const serving = [mainScript, 'serve', big, '--socket', at('big.sock'), '--dialect', 'clones'];
    const { code, stderr } = await run(...cgroup.command(process.execPath, serving));
    expect(stderr).toMatch(/big takes 314572800 bytes of memory for its clones, \d+ are to be had: give it more/);
    expect(existsSync(at('big.sock'))).toBe(false);
    expect(code).toBe(1);
  });

  it('of a file that changes meanwhile is refused', async () => {
    const file = patternFile(folder, 4096, 'changing');
    const filling = fillBacking(file, (filled) => {
      if (filled > 0) writeFileSync(file, 'other', { flag: 'r+' });
    });
    await expect(filling).rejects.toMatchObject({ code: 'ERR_SOURCE_CHANGED' });
  });
});

describe('wrong usage', () => {
  it.each([
    [['--dialect', 'klones'], /Allowed are auto, clones, and PATH=clones/],
    [['--dialect', '/none=clones'], /there is no --socket \/none/],
    [['--dialect', 'clones', '--record', '/tmp/none'], /--record and --replay bring nothing to clones/],
  ])('%s', async (args, reason) => {
    const { code, stderr } = await uffd(['serve', snapshot, '--socket', at('usage.sock'), ...args]);
    expect(stderr).toMatch(reason);
    expect(code).toBe(2);
  });

  it('of a URL', async () => {
    const { code, stderr } = await uffd([
      'serve',
      'http://127.0.0.1:1/x',
      '--socket',
      at('u.sock'),
      '--dialect',
      'clones',
    ]);
    expect(stderr).toMatch(/--dialect clones is for files/);
    expect(code).toBe(2);
  });
});
