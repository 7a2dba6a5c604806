// One server process: several snapshots at several sockets, and sparse ones.
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Serve, compiled, patternFile, patternOf, run, temporaryFolder, touches, uffd, until } from './support.js';

const PAGES = 64;
const SIZE = PAGES * 4096;
const folder = temporaryFolder();
const snapshot = patternFile(folder, PAGES);
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
const firecracker = compiled('firecracker-client.c');
const handoff = compiled('hostile-client.c');

/** 64 pages: bytes in pages 8 to 11, in part of page 20, and in the last one; holes elsewhere. */
function sparseFile(name: string): { path: string; values: number[] } {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  ftruncateSync(fd, SIZE);
  for (const page of [8, 9, 10, 11, 63]) writeSync(fd, Buffer.alloc(4096, patternOf(page)), 0, 4096, page * 4096);
  closeSync(fd);
  const written = new Set([8, 9, 10, 11, 63]);
  return { path, values: content.map((value, page) => (written.has(page) ? value : 0)) };
}

describe('several sockets', () => {
  it('each serves its own snapshot, or the same as another', async () => {
    const sparse = sparseFile('second');
    const sockets = ['a', 'b', 'c'].map((name) => join(folder, `${name}.sock`));
    const serve = await Serve.startPairs(
      [`${sockets[0]}=${snapshot}`, `${sockets[1]}=${sparse.path}`, `${sockets[2]}=${snapshot}`],
      '--workers',
      '1',
    );
    for (const socket of sockets) await serve.event('listening', { socket });
    const results = await Promise.all(
      sockets.map((socket) => run(firecracker, ['all', '1.12', socket, `${SIZE}`, `${SIZE}`])),
    );
    expect(results.map(({ stdout }) => touches(stdout, 'page'))).toEqual([content, sparse.values, content]);
    // A worker serves a client before what is said of it has come to us.
    const sessions = () =>
      new Set(serve.events.filter(({ event }) => event === 'session').map(({ session }) => session));
    await until(() => sessions().size === 3);
    expect(await serve.stop()).toBe(0);
  });

  it('a path without a snapshot is refused, with what is missing', async () => {
    const { code, stderr } = await uffd(['serve', '--socket', join(folder, 'none.sock')]);
    expect(stderr).toMatch(/missing required argument 'file': give it, or --socket PATH=FILE/);
    expect(code).toBe(2);
  });

  it('one snapshot that cannot be served is the end of all, and no socket file is left', async () => {
    const { code, stderr } = await uffd([
      'serve',
      '--socket',
      `${folder}/x.sock=${snapshot}`,
      '--socket',
      `${folder}/y.sock=/none`,
    ]);
    expect(stderr).toMatch(/ENOENT/);
    expect(code).toBe(1);
  });
});

describe.each(['--fault-around=1', '--fault-around=64'])('a sparse snapshot, %s', (around) => {
  const sparse = sparseFile(`sparse${around}`);

  it('holes are zeroes that were not read, the rest is its content: private memory', async () => {
    const serve = await Serve.start(sparse.path, join(folder, `anonymous${around}.sock`), around);
    const { stdout } = await run(firecracker, ['all', '1.12', serve.socket, `${SIZE}`, `${32 * 4096}`]);
    expect(touches(stdout, 'page')).toEqual(sparse.values);
    const { stats } = (await serve.event('detached')) as unknown as { stats: Record<string, number> };
    expect(stats).toMatchObject({ zeroPages: 59, filledPages: 5 });
    expect(await serve.stop()).toBe(0);
  });

  it.each(['copy', 'continue'])('the same in a memfd, --fill %s', async (fill) => {
    const socket = join(folder, `${fill}${around}.sock`);
    const serve = await Serve.start(sparse.path, socket, around, '--fill', fill);
    const { stdout } = await run(handoff, ['normal', socket, `${PAGES}`]);
    expect(touches(stdout, 'page')).toEqual(sparse.values);
    const { stats } = (await serve.event('detached')) as unknown as { stats: Record<string, number> };
    expect(stats).toMatchObject({ zeroPages: 59, filledPages: 5 });
    expect(await serve.stop()).toBe(0);
  });

  it('completed at the end: the same', async () => {
    const serve = await Serve.start(sparse.path, join(folder, `drain${around}.sock`), around);
    const ended = run(firecracker, ['drained', '1.12', serve.socket, `${SIZE}`, `${SIZE}`]);
    await serve.event('session');
    expect(await serve.stop()).toBe(0);
    expect(touches((await ended).stdout, 'again')).toEqual(sparse.values);
  });
});
