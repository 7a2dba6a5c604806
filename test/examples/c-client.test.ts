// examples/c-client: compiled, and served by `uffd serve` from a real file.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { requires } from '../support/requires.js';
import { Program, installedFolder, root } from './sandbox.js';

const PAGE = 4096;
const socket = './uffd.sock';

beforeEach((context) => {
  requires(context, 'uffd', 'uffd-minor');
  if (spawnSync('cc', ['--version']).status !== 0) context.skip('no C compiler');
});

/** A folder with the compiled client, and a file of that size to serve. */
function compiled(sizeBytes: number): string {
  const folder = installedFolder();
  const source = join(root, 'examples/c-client/client.c');
  const { status, stderr } = spawnSync('cc', ['-O2', '-Wall', '-Wextra', '-Werror', source, '-o', 'client'], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 20_000,
  });
  expect(status, stderr).toBe(0);
  writeFileSync(join(folder, 'snapshot.img'), randomBytes(sizeBytes));
  return folder;
}

async function serving(folder: string, ...options: string[]): Promise<Program> {
  const args = ['serve', 'snapshot.img', '--socket', socket, '--json', ...options];
  const server = new Program(join(folder, 'node_modules/.bin/uffd'), args, folder);
  await server.says('"listening"');
  return server;
}

function client(folder: string, sizeBytes: number): Program {
  return new Program('./client', [socket, String(sizeBytes)], folder);
}

test.each(['copy', 'continue'])('every byte is right, filled by %s', async (fill) => {
  const size = 500 * PAGE + 17;
  const folder = compiled(size);
  const server = await serving(folder, '--fill', fill, '--fault-around', '1');
  const { status, stdout, stderr } = await client(folder, size).ended();
  expect(stderr).toBe('');
  expect(status).toBe(0);
  const expected = spawnSync('cksum', ['snapshot.img'], { cwd: folder, encoding: 'utf8' }).stdout;
  expect(expected).toBe(`${stdout.trim()} snapshot.img\n`);
  await server.says('"filledPages":501');
  server.kill('SIGTERM');
  expect((await server.ended()).status).toBe(0);
});

test('prints no checksum and exits 1 when the server is killed in the middle', async () => {
  const folder = compiled(20_000 * PAGE);
  const server = await serving(folder, '--fault-around', '1');
  const running = client(folder, 20_000 * PAGE);
  await server.says('"session"');
  server.kill('SIGKILL');
  const { status, stdout, stderr } = await running.ended(4000);
  expect(stderr).toContain('the fault server has gone');
  expect(status).toBe(1);
  expect(stdout).toBe('');
});

test('never notices that the server is told to stop in the middle', async () => {
  const size = 8000 * PAGE;
  const folder = compiled(size);
  const server = await serving(folder, '--fault-around', '1');
  const running = client(folder, size);
  await server.says('"session"');
  server.kill('SIGTERM');
  expect((await server.ended()).status).toBe(0);
  const { status, stdout } = await running.ended();
  expect(status).toBe(0);
  const expected = spawnSync('cksum', ['snapshot.img'], { cwd: folder, encoding: 'utf8' }).stdout;
  expect(expected).toBe(`${stdout.trim()} snapshot.img\n`);
});

test('says why it was refused', async () => {
  const folder = compiled(PAGE);
  await serving(folder);
  const { status, stderr } = await client(folder, 2 * PAGE).ended();
  expect(status).toBe(1);
  expect(stderr).toContain('after the last page of the source');
});
