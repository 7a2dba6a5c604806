// Working sets of earlier runs, and filling behind demand: faults that do not happen any more.
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Serve, compiled, patternFile, patternOf, run, temporaryFolder, touches, uffd, until } from './support.js';

const PAGES = 256;
const SIZE = PAGES * 4096;
const folder = temporaryFolder();
const snapshot = patternFile(folder, PAGES);
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const client = compiled('firecracker-client.c');
const handoff = compiled('hostile-client.c');
const at = (name: string) => join(folder, name);

async function session(
  serve: Serve,
  mode: string,
  file = SIZE,
): Promise<{ values: number[]; stats: Record<string, number> }> {
  const before = serve.events.filter(({ event }) => event === 'detached').length;
  const { stdout } = await run(client, [mode, '1.12', serve.socket, `${file}`, `${file / 2}`]);
  await until(() => serve.events.filter(({ event }) => event === 'detached').length > before);
  const { stats } = serve.events.filter(({ event }) => event === 'detached').at(-1) as unknown as {
    stats: Record<string, number>;
  };
  return { values: touches(stdout, 'page'), stats };
}

interface Recorded {
  extents: number[];
  pageSize: number;
}
const recorded = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as Recorded;

describe('record and replay', () => {
  const record = at('record');

  it('what was asked for is recorded, and comes before it is asked for', async () => {
    const first = await Serve.start(snapshot, at('1.sock'), '--record', record, '--fault-around', '1');
    const one = await session(first, 'quarter');
    expect(one.values).toEqual(content.slice(0, PAGES / 4));
    expect(one.stats['faults']).toBe(PAGES / 4);
    expect(await first.stop()).toBe(0);
    expect(recorded(record)).toMatchObject({ extents: [0, PAGES / 4], pageSize: 4096 });

    const second = await Serve.start(snapshot, at('2.sock'), '--replay', record, '--fault-around', '1');
    const two = await session(second, 'quarter-later');
    expect(two.values).toEqual(content.slice(0, PAGES / 4));
    expect(two.stats).toMatchObject({ faults: 0, filledPages: PAGES / 4 });
    expect(await second.stop()).toBe(0);
  });

  it('exactly what was asked for is recorded, unless it is said what comes along', async () => {
    for (const [around, extents] of [
      [[], [PAGES - 1, 1]],
      [
        ['--fault-around', '8'],
        [PAGES - 8, 8],
      ],
    ] as const) {
      const path = at(`exact${around.length}`);
      const serve = await Serve.start(snapshot, at(`e${around.length}.sock`), '--record', path, ...around);
      await run(handoff, ['last-first', serve.socket, `${PAGES}`]);
      await serve.event('detached');
      expect(await serve.stop()).toBe(0);
      expect(recorded(path).extents).toEqual(extents);
    }
  });

  it('a second record adds to the first, and may be replayed meanwhile', async () => {
    const serve = await Serve.start(
      snapshot,
      at('3.sock'),
      '--record',
      record,
      '--replay',
      record,
      '--fault-around',
      '1',
    );
    const { values, stats } = await session(serve, 'later');
    expect(values).toEqual(content);
    expect(stats['faults']).toBe(PAGES - PAGES / 4);
    expect(await serve.stop()).toBe(0);
    expect(recorded(record).extents).toEqual([0, PAGES]);
  });

  it('of a client with pages of another size nothing is recorded, and nothing is brought to it: a warning each', async () => {
    const path = at('other-pages');
    writeFileSync(path, JSON.stringify({ ...recorded(record), pageSize: 8192, extents: [0, 1] }));
    const options = ['--record', path, '--replay', path];
    const serve = await Serve.start(snapshot, at('other-pages.sock'), ...options);
    const { values } = await session(serve, 'all');
    expect(values).toEqual(content);
    const { session: number, pid, pageSize } = await serve.event('session');
    expect(pageSize).toBe(4096);
    const warnings = serve.events.filter(({ event }) => event === 'warning');
    expect(warnings.map(({ reason }) => reason)).toEqual(
      ['--replay', '--record'].map(
        (option) => `${option} does nothing for this client: its pages have 4096 bytes, the recorded ones 8192`,
      ),
    );
    for (const warning of warnings) expect(warning).toMatchObject({ session: number, pid });
    expect(await serve.stop()).toBe(0);
    expect(recorded(path)).toMatchObject({ pageSize: 8192, extents: [0, 1] });
  });

  it('a server that is killed has written what was recorded until the session ended', async () => {
    const path = at('killed-record');
    const serve = await Serve.start(snapshot, at('4.sock'), '--record', path);
    await session(serve, 'quarter');
    await until(() => existsSync(path));
    serve.kill('SIGKILL');
    expect(recorded(path).extents).toEqual([0, PAGES / 4]);
  });

  it('a copy of the snapshot is the snapshot; its SHA-256 is computed', async () => {
    copyFileSync(snapshot, at('copy'));
    const serve = await Serve.start(at('copy'), at('5.sock'), '--replay', record);
    expect((await session(serve, 'later')).stats['faults']).toBe(0);
    expect(await serve.stop()).toBe(0);
  });

  it.each([
    ['of other bytes', () => patternFileChanged('changed', SIZE), /recorded of another snapshot .* record it again/],
    ['of another size', () => patternFile(folder, PAGES - 1, 'short'), /recorded of a snapshot of 1048576 bytes/],
  ])('refused for a snapshot %s, whether it is replayed or added to', async (_, make, reason) => {
    const other = make();
    for (const option of ['--replay', '--record']) {
      const before = readFileSync(record);
      const { code, stderr } = await uffd(['serve', other, '--socket', at('6.sock'), option, record]);
      expect(stderr).toMatch(reason);
      expect(code).toBe(1);
      expect(readFileSync(record)).toEqual(before);
    }
  });

  it('a file that is no working set is refused', async () => {
    writeFileSync(at('garbage'), 'garbage');
    const { code, stderr } = await uffd(['serve', snapshot, '--socket', at('7.sock'), '--replay', at('garbage')]);
    expect(stderr).toMatch(/garbage: is no working set: it is not JSON/);
    expect(code).toBe(1);
  });
});

function patternFileChanged(name: string, size: number): string {
  writeFileSync(at(name), Buffer.alloc(size, 1));
  return at(name);
}

describe('--background-fill', () => {
  const BIG = 16 * 2 ** 20;
  const big = patternFile(folder, BIG / 4096, 'big');
  const bigContent = Array.from({ length: BIG / 4096 }, (_, page) => patternOf(page));

  it('everything is there after a while', async () => {
    const serve = await Serve.start(big, at('8.sock'), '--background-fill');
    const { values, stats } = await session(serve, 'later', BIG);
    expect(values).toEqual(bigContent);
    expect(stats).toMatchObject({ faults: 0, filledPages: BIG / 4096 });
    expect(await serve.stop()).toBe(0);
  });

  it('while everything is asked for: the content, each page once', async () => {
    const serve = await Serve.start(big, at('9.sock'), '--background-fill', '--fault-around', '1');
    const { values, stats } = await session(serve, 'all', BIG);
    expect(values).toEqual(bigContent);
    expect(stats['filledPages']).toBe(BIG / 4096);
    expect(await serve.stop()).toBe(0);
  });

  it('never over what the balloon has taken', async () => {
    const serve = await Serve.start(big, at('10.sock'), '--background-fill');
    const { stdout, code } = await run(client, ['balloon', '1.12', serve.socket, `${SIZE}`, `${SIZE}`]);
    expect(stdout).not.toMatch(/wrong|failed/);
    expect(touches(stdout, 'again')).toEqual(content.map(() => 0));
    expect(code).toBe(0);
    expect(await serve.stop()).toBe(0);
  });

  it('SIGTERM in the middle of it completes as ever', async () => {
    const serve = await Serve.start(big, at('11.sock'), '--background-fill');
    const ended = run(client, ['drained', '1.12', serve.socket, `${BIG}`, `${BIG}`]);
    await serve.event('session');
    expect(await serve.stop()).toBe(0);
    expect(touches((await ended).stdout, 'again')).toEqual(bigContent);
  });
});
