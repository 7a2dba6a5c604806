// What Firecracker sends and does with its memory, from a process that does the same: three generations of the message,
// the balloon, huge pages, the end of either side.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { requires } from '../support/requires.js';
import {
  Serve,
  compiled,
  patternFile,
  patternOf,
  resourcesOf,
  run,
  temporaryFolder,
  touches,
  until,
} from './support.js';

const PAGES = 64;
const SIZE = PAGES * 4096;
const HUGE = 2 * 2 ** 20;
const folder = temporaryFolder();
const snapshot = patternFile(folder, PAGES);
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const client = compiled('firecracker-client.c');
let serve: Serve;

beforeAll(async () => {
  serve = await Serve.start(snapshot, join(folder, 'firecracker.sock'), '--fault-around', '4');
});

afterAll(async () => {
  expect(await serve.stop()).toBe(0);
});

const firecracker = (mode: string, release: string, socket = serve.socket, second = 40 * 4096) =>
  run(client, [mode, release, socket, `${SIZE}`, `${second}`]);

describe.each(['1.1', '1.7', '1.12'])('the message of release %s', (release) => {
  it.each(['all', 'bytes', 'late-descriptor', 'empty-first'])('%s: the content of the snapshot', async (mode) => {
    const { stdout, code } = await firecracker(mode, release);
    expect(touches(stdout, 'page')).toEqual(content);
    expect(code).toBe(0);
  });

  it('its end is seen, and the log says what it was', async () => {
    const session = serve.events.filter(({ event }) => event === 'session').at(-1)!;
    expect(session['dialect']).toBe('firecracker');
    await serve.event('detached', { session: session['session'], why: 'gone' });
  });
});

describe('the balloon', () => {
  it('content or zeroes while it inflates, zeroes afterwards', async () => {
    const { stdout, code } = await firecracker('balloon', '1.12');
    expect(stdout).not.toMatch(/wrong|failed/);
    expect(touches(stdout, 'again')).toEqual(content.map(() => 0));
    expect(code).toBe(0);
  });

  it('pages given back before anybody looked at them are zeroes', async () => {
    const { stdout } = await firecracker('remove-first', '1.12');
    expect(touches(stdout, 'page')).toEqual(content.map((value, page) => (page < PAGES / 2 ? 0 : value)));
  });

  it('a server that stops leaves nobody asleep in madvise', async () => {
    for (let round = 0; round < 10; round++) {
      const other = await Serve.start(snapshot, join(folder, `stop-${round}.sock`));
      const ended = firecracker('inflate-to-the-end', '1.12', other.socket);
      await other.event('session');
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(await other.stop()).toBe(0);
      const { stdout, code } = await ended;
      expect(code).toBe(0);
      expect(touches(stdout, 'again')).toEqual(content.map(() => 0));
    }
  });
});

it('a message that ends at any of its bytes is refused, and nothing is left of it', async () => {
  const other = await Serve.start(snapshot, join(folder, 'cut.sock'));
  const pid = other.process.pid!;
  const { stdout } = await firecracker('all', '1.12', other.socket);
  expect(touches(stdout, 'page')).toEqual(content);
  await other.event('detached', { session: 1 });
  const before = resourcesOf(pid).descriptors;
  const cut = await firecracker('cut-everywhere', '1.12', other.socket);
  expect(touches(cut.stdout, 'page')).toEqual(content);
  const times = Number(/^cut (\d+)$/m.exec(cut.stdout)![1]);
  const refused = () => other.events.filter(({ event }) => event === 'refused');
  await until(() => refused().length === times);
  for (const { reason } of refused()) expect(reason).toMatch(/closed the connection before its handshake was complete/);
  await other.event('detached', { session: 2 });
  await until(() => resourcesOf(pid).descriptors <= before);
  expect(await other.stop()).toBe(0);
});

it('SIGTERM completes the memory, and says nothing on the socket', async () => {
  const other = await Serve.start(snapshot, join(folder, 'drain.sock'), '--fault-around', '1');
  const ended = firecracker('drained', '1.12', other.socket);
  await other.event('session');
  expect(await other.stop()).toBe(0);
  const { stdout, code } = await ended;
  expect(stdout).toContain('said 0\n');
  expect(touches(stdout, 'again')).toEqual(content);
  expect(code).toBe(0);
});

it('a server that is killed leaves pages that wait, never zeroes', async () => {
  const other = await Serve.start(snapshot, join(folder, 'killed.sock'), '--fault-around', '1');
  const ended = run(client, ['drained', '1.12', other.socket, `${SIZE}`, `${SIZE}`], { timeoutMs: 1500 });
  await other.event('session');
  other.kill('SIGKILL');
  const { stdout, code } = await ended;
  expect(code).toBeNull();
  // Page 0 at most: it was brought before the server was killed.
  expect([[], content.slice(0, 1)]).toContainEqual(touches(stdout, 'again'));
});

describe('huge pages', () => {
  // Beyond the pool, which another file of tests changes at the same time.
  const surplus = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages';
  let before: string | undefined;

  beforeEach((context) => {
    requires(context, 'root', 'hugetlb-2M');
    before ??= readFileSync(surplus, 'utf8');
    writeFileSync(surplus, `${Number(before) + 8}`);
  });
  afterAll(() => {
    if (before !== undefined) writeFileSync(surplus, before);
  });

  it('of 2 MiB', async () => {
    const big = patternFile(folder, (4 * HUGE) / 4096, 'big');
    const bytes = readFileSync(big);
    for (let page = 0; page < 4; page++) bytes.fill(patternOf(page), page * HUGE, (page + 1) * HUGE);
    writeFileSync(big, bytes);
    const other = await Serve.start(big, join(folder, 'huge.sock'));
    const { stdout, code } = await run(client, ['all', '2M', other.socket, `${4 * HUGE}`, `${2 * HUGE}`]);
    expect(touches(stdout, 'page')).toEqual([1, 2, 3, 4]);
    expect(code).toBe(0);
    await until(() => other.events.some(({ event }) => event === 'detached'));
    expect(await other.stop()).toBe(0);
  });
});
