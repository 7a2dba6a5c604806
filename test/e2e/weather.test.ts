// Bad weather: servers and clients that die, files that change, everything at once.
import { spawn } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
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

const folder = temporaryFolder();
const client = compiled('hostile-client.c');
const BIG_PAGES = 40_000;
const big = patternFile(folder, BIG_PAGES, 'big');
const bigSize = `${BIG_PAGES * 4096}`;

const start = (name: string, file: string, ...args: string[]) =>
  Serve.start(file, join(folder, `${name}.sock`), ...args);
/** Long enough under way that something can happen in its middle: every page is a fault. */
const slowly = ['--fault-around', '1'];
const touch = (serve: Serve) => uffd(['touch', '--socket', serve.socket, '--size', bigSize, '--json', '--quiet']);
const faulting = (serve: Serve) =>
  serve.event('session').then(() => new Promise((resolve) => setTimeout(resolve, 300)));

describe('the server', () => {
  it('killed in the middle: the client says so, prints no hash and exits 1 within 2 s', async () => {
    const serve = await start('killed', big, ...slowly);
    const touching = touch(serve);
    await faulting(serve);
    const killedAt = performance.now();
    serve.kill('SIGKILL');
    const result = await touching;
    expect(performance.now() - killedAt).toBeLessThan(2000);
    expect(result.code).toBe(1);
    expect(result.stdout).toBe('');
    expect(result.stderr).toMatch(/^uffd: the fault server is gone/);
  });

  it('told to stop in the middle: completes the client, which never notices', async () => {
    const serve = await start('drained', big, ...slowly);
    const touching = touch(serve);
    await faulting(serve);
    expect(await serve.stop()).toBe(0);
    expect(serve.events.at(-1)).toMatchObject({ event: 'drained' });
    expect(serve.events.find(({ event }) => event === 'detached')).toMatchObject({ why: 'drained' });
    const result = await touching;
    expect(result.stderr).toBe('');
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/"sha256"/);
  });

  it('told to stop: pages nobody had asked for are there afterwards', async () => {
    const small = patternFile(folder, 300, 'small');
    const serve = await start('late', small, ...slowly);
    const late = run(client, ['late', serve.socket, '300']);
    await serve.event('session');
    expect(await serve.stop()).toBe(0);
    const { stdout, code } = await late;
    expect(stdout).toMatch(/^\{"event":"drained"\}$\n^EOF$/m);
    expect(touches(stdout, 'again')).toEqual(Array.from({ length: 300 }, (_, page) => patternOf(page)));
    expect(code).toBe(0);
  });

  it('told to stop while somebody is silent: does not wait for a handshake', async () => {
    const serve = await start('silent', big, '--handshake-timeout', '10m');
    const silent = createConnection(serve.socket);
    silent.on('error', () => undefined);
    silent.write('[');
    await until(() => silent.bytesWritten > 0);
    expect(await serve.stop()).toBe(0);
    silent.destroy();
  });

  it('told twice: ends at once', async () => {
    const file = patternFile(folder, 300, 'twice');
    const serve = await start('twice', file, ...slowly, '--drain-timeout', '60s');
    const late = run(client, ['late', serve.socket, '300'], { timeoutMs: 3000 });
    await serve.event('session');
    await new Promise((resolve) => setTimeout(resolve, 200));
    // With the file changed, the draining of the client cannot end.
    truncateSync(file, 4096);
    serve.kill('SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(serve.process.exitCode).toBeNull();
    serve.kill('SIGTERM');
    expect((await serve.exited).code).toBe(1);
    expect(existsSync(serve.socket)).toBe(false);
    await late;
  });
});

describe('a file that is not what it was', () => {
  const changes: [name: string, change: (path: string) => void][] = [
    ['shrinks by pages', (path) => truncateSync(path, 4096)],
    ['shrinks into a page', (path) => truncateSync(path, 4096 * 100 + 1)],
    ['grows', (path) => appendFileSync(path, 'more')],
    ['is touched', (path) => utimesSync(path, 1, 1)],
    [
      'is written over and has its time set back',
      (path) => {
        const { atime, mtime } = statSync(path);
        writeFileSync(path, Buffer.alloc(300 * 4096, 0xee));
        utimesSync(path, atime, mtime);
      },
    ],
    ['is written over', (path) => writeFileSync(path, Buffer.alloc(300 * 4096, 0xee))],
  ];

  it.each(changes)('%s: no page is zeroes or a mixture', async (name, change) => {
    const file = patternFile(folder, 300, 'changing');
    const serve = await start(name.replaceAll(' ', '-'), file, ...slowly, '--fault-deadline', '50ms');
    const before = await run(client, ['normal', serve.socket, '4']);
    expect(touches(before.stdout, 'page')).toEqual([0, 1, 2, 3].map(patternOf));
    change(file);
    const after = await run(client, ['normal', serve.socket, '8']);
    expect(touches(after.stdout, 'page')).toEqual(new Array(8).fill(-1));
    await serve.event('source-failed');
    serve.kill('SIGKILL');
  });

  it.each<[string, (path: string) => void]>([
    ['replaced by renaming another one over it', (path) => renameSync(patternFile(folder, 300, 'newer'), path)],
    ['unlinked', (path) => unlinkSync(path)],
  ])('%s: the old one is served on, with a lease and without', async (name, change) => {
    for (const writer of [false, true]) {
      const file = patternFile(folder, 300, `old-${writer}`);
      // Somebody who has it open for writing: no lease.
      const fd = writer ? openSync(file, 'r+') : undefined;
      const serve = await start(`${name.slice(0, 4)}-${writer}`, file, ...slowly);
      expect(touches((await run(client, ['normal', serve.socket, '4'])).stdout, 'page')).toHaveLength(4);
      change(file);
      const after = await run(client, ['normal', serve.socket, '8']);
      expect(touches(after.stdout, 'page')).toEqual(Array.from({ length: 8 }, (_, page) => patternOf(page)));
      if (fd !== undefined) closeSync(fd);
      expect(await serve.stop()).toBe(0);
    }
  });

  it('changes again and again while clients touch it: old content or SIGBUS, nothing else', async () => {
    const file = patternFile(folder, 200, 'stirred');
    const serve = await start('stirred', file, ...slowly, '--fault-deadline', '20ms');
    const touching = run(client, ['normal', serve.socket, '200']);
    await serve.event('session');
    for (let i = 0; i < 20; i++) {
      truncateSync(file, 4096 * 50 + 7);
      writeFileSync(file, Buffer.alloc(200 * 4096, 0xee));
    }
    const values = touches((await touching).stdout, 'page');
    expect(values).toHaveLength(200);
    values.forEach((value, page) => {
      expect([patternOf(page), -1]).toContain(value);
    });
    serve.kill('SIGKILL');
  });

  it('cannot be drained: exit 1 at the time-out, naming who is left', async () => {
    const file = patternFile(folder, 300, 'undrainable');
    const serve = await start('undrainable', file, ...slowly, '--drain-timeout', '500ms');
    // It waits for ever in the end, as it must: nobody brings its pages.
    const late = run(client, ['late', serve.socket, '300'], { timeoutMs: 3000 });
    await serve.event('session');
    await new Promise((resolve) => setTimeout(resolve, 200));
    truncateSync(file, 4096);
    expect(await serve.stop()).toBe(1);
    expect(serve.stderr).toMatch(/not drained in time: session 1 \(299 pages absent/);
    expect((await late).stdout).toMatch(/^EOF$/m);
  });
});

describe('the lease on the file', () => {
  const leases = (file: string) => {
    const { ino } = statSync(file);
    return readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .filter((line) => line.includes('LEASE') && line.includes(`:${ino} `)).length;
  };

  it('is held by every serving worker, and given back at the end', async () => {
    const file = patternFile(folder, 64, 'leased');
    const serve = await start('leased', file, '--workers', '3');
    expect(leases(file)).toBe(3);
    expect(await serve.stop()).toBe(0);
    expect(leases(file)).toBe(0);
  });

  it('keeps a writer waiting for a moment only; without a change, pages are served on', async () => {
    const file = patternFile(folder, 64, 'opened');
    const serve = await start('opened', file, ...slowly);
    const touching = run(client, ['normal', serve.socket, '64']);
    await serve.event('session');
    const started = performance.now();
    closeSync(openSync(file, 'r+'));
    expect(performance.now() - started).toBeLessThan(2000);
    expect(leases(file)).toBe(0);
    const all = Array.from({ length: 64 }, (_, page) => patternOf(page));
    expect(touches((await touching).stdout, 'page')).toEqual(all);
    expect(touches((await run(client, ['normal', serve.socket, '64'])).stdout, 'page')).toEqual(all);
    expect(await serve.stop()).toBe(0);
  });

  it('is not taken while somebody has the file open for writing: a change through that is noticed', async () => {
    const file = patternFile(folder, 64, 'written');
    const writer = openSync(file, 'r+');
    const serve = await start('written', file, ...slowly, '--fault-deadline', '50ms');
    expect(leases(file)).toBe(0);
    expect(touches((await run(client, ['normal', serve.socket, '4'])).stdout, 'page')).toEqual(
      [0, 1, 2, 3].map(patternOf),
    );
    writeSync(writer, Buffer.alloc(4096, 0xee), 0, 4096, 4096 * 2);
    closeSync(writer);
    expect(touches((await run(client, ['normal', serve.socket, '4'])).stdout, 'page')).toEqual([-1, -1, -1, -1]);
    serve.kill('SIGKILL');
  });
});

describe('policies', () => {
  it('kill: the client dies of SIGKILL', async () => {
    const file = patternFile(folder, 4, 'killing');
    const serve = await start('kill', file, '--on-failure', 'kill', '--fault-deadline', '100ms');
    truncateSync(file, 1);
    const killed = await run(client, ['normal', serve.socket, '1']);
    expect(killed, JSON.stringify({ killed, events: serve.events })).toMatchObject({ signal: 'SIGKILL' });
    await serve.event('unserved', { action: 'kill' });
    expect(await serve.stop()).toBe(0);
  });

  it('stall: the client waits, with a word in the log', async () => {
    const file = patternFile(folder, 4, 'stalling');
    const serve = await start('stall', file, '--on-failure', 'stall', '--fault-deadline', '100ms');
    truncateSync(file, 1);
    const { code, stdout } = await run(client, ['normal', serve.socket, '1'], { timeoutMs: 1000 });
    expect(code).toBeNull();
    expect(touches(stdout, 'page')).toEqual([]);
    await serve.event('unserved', { action: 'stall' });
    serve.kill('SIGKILL');
  });
});

describe('demo', () => {
  const leftovers = () => readdirSync(tmpdir()).filter((name) => name.startsWith('uffd-demo-'));
  const children = (pid: number) =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
  const alive = (pid: string) =>
    existsSync(`/proc/${pid}`) && !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

  it.each([1, 4097, 3_000_000])('%i bytes, sequential and random, 1 and 8 threads', async (size) => {
    const file = join(folder, `demo-${size}`);
    writeFileSync(file, readFileSync(process.execPath).subarray(0, size));
    for (const order of ['sequential', 'random']) {
      for (const threads of ['1', '8']) {
        const result = await uffd(['demo', file, '--json', '--order', order, '--threads', threads]);
        const report = JSON.parse(result.stdout) as Record<string, unknown>;
        const pages = Math.ceil(size / 4096);
        expect(report).toMatchObject({ ok: true, pages, faults: pages, faultsSeen: pages });
        expect(result.code).toBe(0);
      }
    }
  });

  it.each(['auto', 'copy', 'continue'])('--fill %s with pages brought along', async (fill) => {
    const result = await uffd([
      'demo',
      big,
      '--json',
      '--fill',
      fill,
      '--fault-around',
      '64',
      '--order',
      'random',
      '--threads',
      '4',
    ]);
    expect(JSON.parse(result.stdout)).toMatchObject({ ok: true, pages: BIG_PAGES });
    expect(result.code).toBe(0);
  });

  it.each(['SIGINT', 'SIGKILL', 'SIGTERM'] as const)('%s leaves no process and no socket', async (signal) => {
    const demo = spawn(process.execPath, [mainScript, 'demo', big, '--json'], { stdio: 'ignore' });
    const exited = new Promise((resolve) => demo.on('close', resolve));
    await until(() => children(demo.pid!).length === 2, 10_000);
    const pids = children(demo.pid!);
    demo.kill(signal);
    await exited;
    await until(() => !pids.some(alive), 10_000);
    await until(() => leftovers().length === 0);
    if (signal !== 'SIGKILL') expect(demo.exitCode).toBe(1);
  });
});
