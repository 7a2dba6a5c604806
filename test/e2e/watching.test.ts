// What can be seen of a server: metrics, status, the trace of faults.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { requires } from '../support/requires.js';
import { Serve, compiled, patternFile, patternOf, run, temporaryFolder, touches, uffd, until } from './support.js';

const PAGES = 64;
const SIZE = PAGES * 4096;
const folder = temporaryFolder();
const snapshot = patternFile(folder, PAGES);
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const client = compiled('firecracker-client.c');
const at = (name: string) => join(folder, name);
const pagesOf = (mode: string, serve: Serve) => run(client, [mode, '1.12', serve.socket, `${SIZE}`, `${SIZE}`]);

async function scrape(url: string): Promise<{ text: string; value: (sample: string) => number }> {
  const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  const text = await response.text();
  const samples = new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
  return { text, value: (sample) => samples.get(sample) ?? NaN };
}

describe('--metrics', () => {
  it('counts what happened, also of sessions that are over, and how long answers took', async () => {
    const serve = await Serve.start(snapshot, at('1.sock'), '--metrics', '0', '--fault-around', '1');
    const { url } = await serve.event('metrics');
    const { stdout } = await pagesOf('all', serve);
    expect(touches(stdout, 'page')).toEqual(content);
    await serve.event('detached');
    createConnection(serve.socket).end('no handshake');
    await serve.event('refused');
    const waiting = pagesOf('wait', serve);
    await until(() => serve.events.filter(({ event }) => event === 'session').length === 2);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { text, value } = await scrape(url as string);
    const file = `file="${snapshot}"`;
    expect(value(`uffd_sessions{${file}}`)).toBe(1);
    expect(value(`uffd_sessions_total{${file}}`)).toBe(2);
    expect(value(`uffd_refused_total{${file}}`)).toBe(1);
    expect(value(`uffd_faults_total{${file}}`)).toBe(2 * PAGES);
    expect(value(`uffd_pages_filled_total{${file}}`)).toBe(2 * PAGES);
    expect(value(`uffd_answer_seconds_count{${file},outcome="filled"}`)).toBe(2 * PAGES);
    expect(value(`uffd_answer_seconds_bucket{${file},outcome="filled",le="+Inf"}`)).toBe(2 * PAGES);
    expect(value(`uffd_answer_seconds_sum{${file},outcome="filled"}`)).toBeGreaterThan(0);
    expect(value(`uffd_unserved_total{${file},action="poison"}`)).toBe(0);
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(2 ** 20);
    for (const name of text.match(/^uffd_\w+|^process_\w+/gm)!) {
      expect(text).toContain(`# HELP ${name.replace(/_(bucket|sum|count)$/, '')} `);
    }
    process.kill((await serve.event('session', { session: 2 }))['pid'] as number, 'SIGKILL');
    await waiting;
    expect(await serve.stop()).toBe(0);
  });

  it('one window of many pages is one answer', async () => {
    const serve = await Serve.start(snapshot, at('2.sock'), '--metrics', '127.0.0.1:0', '--fault-around', '64');
    const { url } = await serve.event('metrics');
    await pagesOf('all', serve);
    await serve.event('detached');
    const { value } = await scrape(url as string);
    expect(value(`uffd_answer_seconds_count{file="${snapshot}",outcome="filled"}`)).toBe(1);
    expect(await serve.stop()).toBe(0);
  });

  it('promtool has nothing to say about it', async (context) => {
    requires(context, 'promtool');
    const serve = await Serve.start(snapshot, at('3.sock'), '--metrics', '0');
    const { text } = await scrape((await serve.event('metrics'))['url'] as string);
    const { status, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(await serve.stop()).toBe(0);
  });

  it('other paths and methods are refused, a port in use ends the server', async () => {
    const serve = await Serve.start(snapshot, at('4.sock'), '--metrics', '0');
    const url = (await serve.event('metrics'))['url'] as string;
    expect((await fetch(url.replace('/metrics', '/'))).status).toBe(404);
    expect((await fetch(url, { method: 'POST' })).status).toBe(405);
    const port = new URL(url).port;
    const { code, stderr } = await uffd(['serve', snapshot, '--socket', at('5.sock'), '--metrics', port]);
    expect(stderr).toMatch(/EADDRINUSE/);
    expect(code).toBe(1);
    expect(await serve.stop()).toBe(0);
  });
});

describe('--status', () => {
  it('tells who is served, for people and as JSON', async () => {
    const serve = await Serve.start(snapshot, at('6.sock'), '--fault-around', '1');
    const ended = pagesOf('wait', serve);
    const { pid } = await serve.event('session');
    await new Promise((resolve) => setTimeout(resolve, 300));
    const json = await uffd(['serve', '--status', '--socket', serve.socket, '--json']);
    expect(JSON.parse(json.stdout)).toMatchObject({
      event: 'status',
      pid: serve.process.pid,
      file: snapshot,
      sizeBytes: SIZE,
      sessionCount: 1,
      sessions: [{ session: 1, pages: PAGES, faults: PAGES, filledPages: PAGES, waiting: 0 }],
    });
    const text = await uffd(['serve', '--status', '--socket', serve.socket]);
    expect(text.stdout).toMatch(
      /serves .*snapshot, 262144 bytes, to 1 client\n {2}session 1 \(process \d+\): 64 of 64 pages filled/,
    );
    expect(serve.events.filter(({ event }) => event === 'refused')).toEqual([]);
    process.kill(pid as number, 'SIGKILL');
    await ended;
    expect(await serve.stop()).toBe(0);
  });

  it('of no server: the error of connect', async () => {
    const { code, stderr } = await uffd(['serve', '--status', '--socket', at('none.sock')]);
    expect(stderr).toMatch(/ENOENT.*connect/);
    expect(code).toBe(1);
  });
});

it('--trace: every fault, in order', async () => {
  const serve = await Serve.start(snapshot, at('7.sock'), '--trace', at('trace'), '--fault-around', '1');
  await pagesOf('all', serve);
  expect(await serve.stop()).toBe(0);
  const lines = readFileSync(at('trace'), 'utf8').trimEnd().split('\n');
  const faults = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(faults.map(({ page }) => page)).toEqual(content.map((_, page) => page));
  expect(new Set(faults.map(({ session }) => session))).toEqual(new Set([1]));
  expect(faults.every(({ write, minor }) => write === false && minor === false)).toBe(true);
  const times = faults.map(({ timeMs }) => timeMs as number);
  expect([...times].sort((a, b) => a - b)).toEqual(times);
});
