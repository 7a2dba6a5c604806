import { execFileSync } from 'node:child_process';
import { appendFileSync, closeSync, mkdtempSync, openSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { NativeSourceFile } from '../../dist/native/contract.js';
import { native } from '../../dist/native/load.js';
import { SlowFile } from '../../dist/bench/serve/slow-file.js';
import { deadline } from '../support/deadline.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

let path = '';

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-'));
  path = join(folder, 'file');
  writeFileSync(path, Buffer.concat([Buffer.alloc(4096, 'a'), Buffer.alloc(100, 'b')]));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
});

function opened(file: string | number = path): NativeSourceFile {
  const source = new (native().SourceFile)(file);
  onTestFinished(() => {
    source.close();
  });
  return source;
}

test('no lease on a file that can change behind the kernel, though FUSE would grant one', async (context) => {
  requires(context, 'root', 'fuse');
  await using slow = await SlowFile.start(0, deadline());
  expect(opened(slow.path).hold()).toBe(-22);
  expect(opened().hold()).toBeGreaterThan(0);
});

test('its identity', () => {
  const source = opened();
  expect(source.error()).toBe(0);
  const [size, regular, inMemory, device, inode, mtimeNs, fd] = source.identity();
  expect([size, regular]).toEqual([4196, true]);
  expect(typeof inMemory).toBe('boolean');
  expect([typeof device, typeof inode]).toEqual(['bigint', 'bigint']);
  expect(Number(mtimeNs / 1_000_000n)).toBeGreaterThan(Date.now() - 60_000);
  expect(fd).toBeGreaterThan(2);
});

test('a source by descriptor has one of its own', () => {
  const fd = openSync(path, 'r');
  const source = opened(fd);
  closeSync(fd);
  expect(source.error()).toBe(0);
  expect(source.read(new Uint8Array(1), 0, 1, 0, false)).toBe(1);
  expect(opened(fd).error()).toBe(-9);
});

test.each([false, true])('reads, and is short at the end (cached only: %s)', (cachedOnly) => {
  const source = opened();
  const target = new Uint8Array(8192);
  source.read(target, 0, 8192, 0, false);
  target.fill(0);
  const read = source.read(target, 10, 8000, 0, cachedOnly);
  if (cachedOnly && read === -95) return;
  expect(read).toBe(4196);
  expect([target[9], target[10], target[10 + 4096], target[10 + 4196]]).toEqual([0, 97, 98, 0]);
  expect(source.read(target, 0, 1, 4196, cachedOnly)).toBe(0);
  expect(source.read(target, 0, 1, 2 ** 40, cachedOnly)).toBe(0);
});

test('a read outside the target is refused', () => {
  const source = opened();
  const target = new Uint8Array(10);
  expect(() => source.read(target, 0, 11, 0, false)).toThrow(TypeError);
  expect(() => source.read(target, 11, 0, 0, false)).toThrow(TypeError);
  expect(() => source.read(target, 5, 6, 0, false)).toThrow(TypeError);
});

test.each<[string, (file: string) => void]>([
  ['grows', (file) => { appendFileSync(file, 'x'); }],
  ['shrinks', (file) => { truncateSync(file, 4000); }],
  ['is touched', (file) => { utimesSync(file, 1, 1); }],
])('unchanged says so when the file %s', (_, change) => {
  const source = opened();
  expect(source.unchanged(false)).toBe(true);
  change(path);
  expect(source.unchanged(false)).toBe(false);
});

test('a file replaced by name is not changed: the open one is served', () => {
  const source = opened();
  rmSync(path);
  writeFileSync(path, 'another');
  expect(source.unchanged(false)).toBe(true);
});

test.each([
  ['nothing there', 'missing', -2],
  ['below a file', 'file/x', -20],
])('%s is an errno', (_, name, errno) => {
  expect(opened(join(path, '..', name)).error()).toBe(errno);
});

test('what is not regular says so, and a FIFO is not waited for', () => {
  expect(opened('/tmp').identity()[1]).toBe(false);
  expect(opened('/dev/zero').identity()[1]).toBe(false);
  const fifo = join(path, '..', 'fifo');
  execFileSync('mkfifo', [fifo]);
  expect(opened(fifo).identity()[1]).toBe(false);
});

test('closed: reads are EBADF and nothing is unchanged', async () => {
  const source = opened();
  // Of this file only: the sources of other tests are closed when they are collected.
  const ofFile = () => openDescriptors(path);
  expect(ofFile()).toBe(1);
  source.close();
  source.close();
  expect(source.read(new Uint8Array(1), 0, 1, 0, false)).toBe(-9);
  expect(source.unchanged(false)).toBe(false);
  // By a thread that nobody waits for.
  await expect.poll(ofFile).toBe(0);
});
