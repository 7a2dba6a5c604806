// Clients that misbehave: refused, or parked with a reason; never served wrong bytes, never waiting for ever, and never
// anybody else's trouble.
import { chmodSync } from 'node:fs';
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

const PAGES = 8;
const folder = temporaryFolder();
const snapshot = patternFile(folder, PAGES);
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const same = (value: number) => new Array<number>(PAGES).fill(value);
const client = compiled('hostile-client.c');
let serve: Serve;

beforeAll(async () => {
  const socket = join(folder, 'hostile.sock');
  serve = await Serve.start(snapshot, socket, '--fault-deadline', '300ms', '--handshake-timeout', '500ms');
});

afterAll(async () => {
  expect(await serve.stop()).toBe(0);
});

const hostile = (mode: string, ...more: string[]) => run(client, [mode, serve.socket, `${PAGES}`, ...more]);

describe('refused before anything is accepted', () => {
  it.each([
    ['blocking', /userfaultfd is blocking: open it with O_NONBLOCK/],
    ['no-api', /UFFDIO_API has not been done/],
    ['event-fork', /features that are not served: eventFork/],
    ['253-descriptors', /too many descriptors/],
    ['three-descriptors', /more than a userfaultfd and a memfd/],
    ['wrong-memory', /neither a memfd nor a guest_memfd but \/etc\/passwd/],
    ['wrong-uffd', /not a userfaultfd but anon_inode:\[eventfd\]/],
    ['half', /no complete handshake within 500 ms/],
  ])('%s', async (mode, reason) => {
    const result = await hostile(mode);
    expect(result.stdout).toMatch(/^\{"event":"refused"/);
    expect(result.stdout).toMatch(reason);
  });
});

describe('served', () => {
  it.each(['normal', 'pieces', 'anonymous', 'spam', 'unsealable', 'fallocated'])('%s: the content', async (mode) => {
    const result = await hostile(mode);
    expect(touches(result.stdout, 'page')).toEqual(content);
    expect(result.code).toBe(0);
  });

  // The two traps of a server that believes messages instead of its own states.
  it.each(['remove-event', 'punched', 'balloon'])('%s: dropped pages come back as zeroes', async (mode) => {
    const result = await hostile(mode);
    expect(touches(result.stdout, 'page')).toEqual(content);
    expect(touches(result.stdout, 'again')).toEqual(same(0));
    expect(result.code).toBe(0);
  });
});

describe('parked, and then the policy', () => {
  it('O_NONBLOCK cleared behind our back', async () => {
    const result = await hostile('clear-nonblock');
    expect(touches(result.stdout, 'page')).toEqual(same(-1));
    await serve.event('parked', { reason: 'the userfaultfd cannot be read: O_NONBLOCK was cleared on it' });
  });

  it('a fault in memory that was not handed over', async () => {
    const result = await hostile('stray');
    expect(result.stdout).toMatch(/^stray -1$/m);
    expect(result.stdout).toMatch(/^first -1$/m);
    await until(() =>
      serve.events.some(({ event, reason }) => event === 'parked' && /in no mapping/.test(String(reason))),
    );
  });

  it('faults without end in memory that was not handed over: no more is read of them than is kept', async () => {
    const other = await Serve.start(snapshot, join(folder, 'jumping.sock'), '--fault-deadline', '60s');
    const jumping = run(client, ['jumping', other.socket, `${PAGES}`]);
    const { session } = await other.event('session');
    await other.event('parked', { session });
    expect(touches((await run(client, ['normal', other.socket, `${PAGES}`])).stdout, 'page')).toEqual(content);
    expect((await jumping).stdout).toMatch(/^jumped$/m);
    const { faults } = await other.event('detached', { session });
    expect(faults).toBeGreaterThanOrEqual(1024);
    expect(faults).toBeLessThan(1024 + 64);
    expect(await other.stop()).toBe(0);
  });

  it('page cache of unknown content that may not be written', async () => {
    const result = await hostile('unsealable-fallocated');
    expect(touches(result.stdout, 'page')).toEqual(same(-1));
  });
});

describe('a client that holds the lock of its memfd', () => {
  // Its own write has put page 0 into the page cache; in memory that may not be written to, that page cannot be served.
  it.each([
    ['inode-lock', content],
    ['inode-lock-unsealed', [-1, ...content.slice(1)]],
  ])('%s: is served, and holds nobody up', async (mode, values) => {
    const other = await Serve.start(snapshot, join(folder, `${mode}.sock`), '--fault-deadline', '300ms');
    const [stuck, touched] = await Promise.all([
      run(client, [mode, other.socket, `${PAGES}`], { timeoutMs: 5000 }),
      uffd(['touch', '--socket', other.socket, '--size', `${PAGES * 4096}`, '--json']),
    ]);
    expect(touches(stuck.stdout, 'page')).toEqual(values);
    expect(touched.code).toBe(0);
    expect(await other.stop()).toBe(0);
  });
});

describe('other users', () => {
  const NOBODY = 65534;

  it('are turned away, with the reason, unless they are allowed', async () => {
    chmodSync(folder, 0o755);
    const touchAs = (socket: string) =>
      uffd(['touch', '--socket', socket, '--size', '4096', '--user-mode-only', '--json'], { uid: NOBODY });
    expect((await touchAs(serve.socket)).stderr).toMatch(/EACCES.*connect/);
    const one = await Serve.start(snapshot, join(folder, 'one.sock'), '--allow-uid', '1');
    expect((await touchAs(one.socket)).stderr).toMatch(/user 65534 is not allowed to connect/);
    const nobody = await Serve.start(snapshot, join(folder, 'nobody.sock'), '--allow-uid', `${NOBODY}`);
    expect((await touchAs(nobody.socket)).code).toBe(0);
    for (const other of [one, nobody]) expect(await other.stop()).toBe(0);
  });
});

describe('afterwards', () => {
  it('others are served as if nothing had been, and nothing is left of the dead', async () => {
    const sessions = () =>
      serve.events.filter(({ event }) => event === 'session').length -
      serve.events.filter(({ event }) => event === 'detached').length;
    await until(() => sessions() === 0);
    const before = resourcesOf(serve.process.pid!);
    await Promise.all(
      ['spam', 'stray', 'clear-nonblock', 'half', 'wrong-memory', '253-descriptors'].map((mode) => hostile(mode)),
    );
    expect((await uffd(['touch', '--socket', serve.socket, '--size', `${PAGES * 4096}`, '--json'])).code).toBe(0);
    await until(() => sessions() === 0);
    await until(() => resourcesOf(serve.process.pid!).descriptors <= before.descriptors);
  });
});
