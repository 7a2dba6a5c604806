// Clients that change under the server's hands: floods, forks, shrinking and unmapping, and many of them at once. No
// wrong byte, nobody else disturbed, and nothing kept of what is over.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Serve,
  compiled,
  patternFile,
  patternOf,
  resourcesOf,
  run,
  temporaryFolder,
  touches,
  uffd,
  until,
} from './support.js';

const PAGES = 64;
const folder = temporaryFolder();
const snapshot = patternFile(folder, PAGES);
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const client = compiled('restless-client.c');
const manyClients = compiled('many-clients.c');
let serve: Serve;

beforeAll(async () => {
  const socket = join(folder, 'restless.sock');
  serve = await Serve.start(snapshot, socket, '--fault-deadline', '300ms', '--fault-around', '1', '--workers', '1');
});

afterAll(async () => {
  expect(await serve.stop()).toBe(0);
});

const restless = (mode: string, pages = PAGES) => run(client, [mode, serve.socket, `${pages}`], { timeoutMs: 30_000 });
const anonymousBytes = () =>
  Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${serve.process.pid!}/status`, 'utf8'))![1]) * 1024;
const sessions = () =>
  serve.events.filter(({ event }) => event === 'session').length -
  serve.events.filter(({ event }) => event === 'detached').length;
const touched = () => uffd(['touch', '--socket', serve.socket, '--size', `${PAGES * 4096}`, '--json']);

describe('a client that', () => {
  it('floods one page with faults: answered, and another client beside it; memory stays as it was', async () => {
    expect((await touched()).code).toBe(0);
    const before = anonymousBytes();
    const flooding = restless('floods');
    await serve.event('session');
    expect((await touched()).code).toBe(0);
    const { stdout, code } = await flooding;
    expect(stdout).toMatch(/^wrong 0$/m);
    expect(touches(stdout, 'page')).toEqual([0, ...content.slice(1)]);
    expect(code).toBe(0);
    await until(() => sessions() === 0);
    const faults = serve.events
      .filter(({ event }) => event === 'detached')
      .map((event) => (event as unknown as { stats: { faults: number } }).stats.faults);
    // Many more messages than pages.
    expect(Math.max(...faults)).toBeGreaterThan(10 * PAGES);
    expect(anonymousBytes() - before).toBeLessThan(16 * 2 ** 20);
  });

  it('shrinks its memfd: SIGBUS or content for itself, never for the server; zeroes once it has grown again', async () => {
    const { stdout, code } = await restless('shrinks');
    expect(stdout).toMatch(new RegExp(`^first ${patternOf(0)}$`, 'm'));
    expect(touches(stdout, 'page')).toEqual(content.map((value, page) => (page === 0 ? value : -1)));
    expect(code).toBe(0);
    expect((await touched()).code).toBe(0);
  });

  it.each([
    ['lies-about-size', /ends at 266240, after the last page of the source \(262144 bytes\)/],
    ['too-short', /the memfd has 131072 bytes, the mappings end at 262144/],
  ])('%s: refused', async (mode, reason) => {
    expect((await restless(mode)).stdout).toMatch(reason);
  });

  it('unmaps its memory while it faults: the content, where there is memory', async () => {
    for (let round = 0; round < 5; round++) {
      const { stdout, code } = await restless('unmaps');
      expect(stdout).toMatch(/^wrong 0$/m);
      expect(touches(stdout, 'page')).toEqual(content.slice(0, PAGES / 2));
      expect(code).toBe(0);
    }
  });

  it('forks, and leaves a child that holds everything: served, and over with its own address space', async () => {
    const started = serve.events.filter(({ event }) => event === 'session').length;
    const { stdout, seconds } = await restless('forks');
    expect(touches(stdout, 'page')).toEqual(content);
    expect(seconds).toBeLessThan(3);
    const came = () => serve.events.filter(({ event }) => event === 'session')[started];
    await until(() => came() !== undefined);
    const { session } = came()!;
    await serve.event('detached', { session, why: 'gone' }, 2000);
  });

  it('holds the lock of its own address space: served, and another client in no more than seconds', async () => {
    const storming = restless('storms');
    await until(() => sessions() > 0);
    const beside = await touched();
    expect(beside.code).toBe(0);
    expect(beside.seconds).toBeLessThan(10);
    const { stdout } = await storming;
    expect(stdout).toMatch(/^wrong 0 failed 0$/m);
  });
});

describe('two hundred clients of one process', () => {
  it('all right, at the same time; afterwards nothing is left of them', async () => {
    const other = await Serve.start(snapshot, join(folder, 'many.sock'));
    const pid = other.process.pid!;
    expect((await run(manyClients, [other.socket, '8', `${PAGES}`])).stdout).toBe('right 8 wrong 0 refused 0\n');
    const detached = () => other.events.filter(({ event }) => event === 'detached').length;
    await until(() => detached() === 8);
    const before = resourcesOf(pid);
    for (const round of [1, 2]) {
      const { stdout } = await run(manyClients, [other.socket, '200', `${PAGES}`], { timeoutMs: 60_000 });
      expect(stdout).toBe('right 200 wrong 0 refused 0\n');
      await until(() => detached() === 8 + 200 * round, 10_000);
    }
    await until(() => resourcesOf(pid).descriptors <= before.descriptors);
    expect(await other.stop()).toBe(0);
  });
});
