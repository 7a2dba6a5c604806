// A snapshot behind HTTP, served to another process.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ObjectServer } from '../support/object-server.js';
import { Serve, compiled, patternFile, patternOf, run, temporaryFolder, touches, uffd, until } from './support.js';

const PAGES = 1024;
const SIZE = PAGES * 4096;
const folder = temporaryFolder();
const bytes = readFileSync(patternFile(folder, PAGES));
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const client = compiled('firecracker-client.c');
const at = (name: string) => join(folder, name);

describe('uffd serve URL', () => {
  it('the content of the object, each byte fetched once; no secret in the log', async () => {
    await using server = await ObjectServer.start(bytes);
    server.latencyMs = 5;
    const serve = await Serve.start(server.url, at('1.sock'));
    const { stdout } = await run(client, ['all', '1.12', serve.socket, `${SIZE}`, `${SIZE / 2}`]);
    expect(touches(stdout, 'page')).toEqual(content);
    expect(server.asked.reduce((sum, { length }) => sum + length, 0)).toBe(SIZE);
    expect(JSON.stringify(serve.events)).not.toContain('secret');
    expect(await serve.stop()).toBe(0);
  });

  it('SIGTERM completes the memory', async () => {
    await using server = await ObjectServer.start(bytes);
    const serve = await Serve.start(server.url, at('2.sock'));
    const ended = run(client, ['drained', '1.12', serve.socket, `${SIZE}`, `${SIZE}`]);
    await serve.event('session');
    expect(await serve.stop()).toBe(0);
    expect(touches((await ended).stdout, 'again')).toEqual(content);
  });

  it('an object that changes in the middle: SIGBUS, and the reason in the log; never a mixture', async () => {
    await using server = await ObjectServer.start(bytes);
    server.behave = () => {
      if (server.asked.length > 1) server.etag = '"two"';
      return false;
    };
    const serve = await Serve.start(server.url, at('3.sock'), '--fault-deadline', '2s');
    const { stdout, signal } = await run(client, ['all', '1.12', serve.socket, `${SIZE}`, `${SIZE}`]);
    const { reason } = await serve.event('source-failed');
    expect(reason).toMatch(/has changed since it was opened \(HTTP status 412\)/);
    expect(signal).toBe('SIGBUS');
    const seen = touches(stdout, 'page');
    expect(seen).toEqual(content.slice(0, seen.length));
    await serve.event('unserved', { action: 'poison' });
    await serve.stop();
  });

  it('a store that is away for longer than all attempts of a read: its clients wait, and go on', async () => {
    await using server = await ObjectServer.start(bytes);
    const serve = await Serve.start(server.url, at('away.sock'));
    const back = performance.now() + 4000;
    server.behave = (_, response) => {
      if (performance.now() > back) return false;
      response.writeHead(503).end();
      return true;
    };
    const { stdout, code } = await run(client, ['all', '1.12', serve.socket, `${SIZE}`, `${SIZE}`]);
    expect(performance.now()).toBeGreaterThan(back);
    expect(touches(stdout, 'page')).toEqual(content);
    expect(code).toBe(0);
    expect(await serve.stop()).toBe(0);
  });

  it('a client that is gone: nothing more is fetched for it', async () => {
    await using server = await ObjectServer.start(bytes);
    server.latencyMs = 3000;
    const serve = await Serve.start(server.url, at('gone.sock'));
    const dying = run(client, ['all', '1.12', serve.socket, `${SIZE}`, `${SIZE}`], { timeoutMs: 1000 });
    const { pid } = await serve.event('session');
    await until(() => server.underWay > 0);
    process.kill(pid as number, 'SIGKILL');
    await dying;
    await serve.event('detached', { why: 'gone' });
    await until(() => server.underWay === 0, 1000);
    expect(serve.events.filter(({ event }) => event === 'source-failed')).toEqual([]);
    expect(await serve.stop()).toBe(0);
  });

  it('an object that cannot be served: the reason, and no socket', async () => {
    await using server = await ObjectServer.start(bytes);
    server.etag = undefined;
    const { code, stderr } = await uffd(['serve', server.url, '--socket', at('4.sock')]);
    expect(stderr).toMatch(/\/snapshot cannot be served: its server gives no strong ETag/);
    expect(stderr).not.toContain('secret');
    expect(code).toBe(1);
  });
});
