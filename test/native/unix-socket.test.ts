import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { expect, onTestFinished, test } from 'vitest';
import { native } from '../../dist/native/load.js';
import type { NativeUnixSocket } from '../../dist/native/contract.js';
import { socketPair } from '../support/native.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

const EAGAIN = -11;
const EINVAL = -22;
const ENAMETOOLONG = -36;
const EADDRINUSE = -98;
const ECONNREFUSED = -111;

function received(socket: NativeUnixSocket, bytes = 64) {
  const buffer = new Uint8Array(bytes);
  const result = socket.receive(buffer);
  if (typeof result === 'number') return result;
  const [length, truncated, ...descriptors] = result;
  return { text: Buffer.from(buffer.subarray(0, length)).toString(), truncated, descriptors };
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

test.each([0, 1, 2, 3])('%i descriptors go with the bytes', (count) => {
  const [one, other] = socketPair();
  const before = openDescriptors();
  const file = openSync(process.execPath, 'r');
  expect(one.send(Buffer.from('hello'), Array(count).fill(file) as number[])).toBe(5);
  const result = received(other);
  expect(result).toMatchObject({ text: 'hello', truncated: false });
  const { descriptors } = result as { descriptors: number[] };
  expect(descriptors).toHaveLength(count);
  for (const fd of descriptors) {
    expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe(process.execPath);
    native().closeFd(fd);
  }
  closeSync(file);
  expect(openDescriptors()).toBe(before);
});

test('received descriptors are close-on-exec', () => {
  const [one, other] = socketPair();
  one.send(Buffer.from('x'), [one.fd()]);
  const { descriptors } = received(other) as { descriptors: number[] };
  const list = spawnSync('ls', ['/proc/self/fd'], { encoding: 'utf8' }).stdout;
  expect(list.split('\n')).not.toContain(String(descriptors[0]));
  for (const fd of descriptors) native().closeFd(fd);
});

test('more than three are not sent', () => {
  const [one] = socketPair();
  expect(one.send(Buffer.from('x'), [0, 0, 0, 0])).toBe(EINVAL);
});

// 253 are the most that the kernel sends.
test.for([4, 5, 253])('%i descriptors from a peer are a truncation, and none is left over', async (count, context) => {
  requires(context, 'python3');
  const path = join(temporaryFolder(), 'socket');
  const listener = new (native().UnixSocket)(native().UnixSocket.listen(path, 1));
  const send = `import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
r = os.open("/dev/null", os.O_RDONLY)
socket.send_fds(s, [b"many"], [r] * int(sys.argv[2]))`;
  const sender = spawnSync('python3', ['-c', send, path, String(count)], { encoding: 'utf8', timeout: 10_000 });
  expect(sender.status, sender.stderr).toBe(0);
  const connection = new (native().UnixSocket)(listener.accept());
  const before = openDescriptors();
  const result = received(connection);
  expect(result).toMatchObject({ text: 'many', truncated: true });
  const { descriptors } = result as { descriptors: number[] };
  expect(descriptors).toHaveLength(3);
  for (const fd of descriptors) native().closeFd(fd);
  // On a thread nobody waits for.
  await expect.poll(() => openDescriptors()).toBe(before);
  connection.close();
  listener.close();
});

test('bytes keep their order, in pieces of the reader', () => {
  const [one, other] = socketPair();
  one.send(Buffer.from('abc'), []);
  one.send(Buffer.from('def'), []);
  expect(received(other, 4)).toMatchObject({ text: 'abcd' });
  expect(received(other, 4)).toMatchObject({ text: 'ef' });
});

test('nothing there is EAGAIN, the end is no bytes, a closed peer no signal', () => {
  const [one, other] = socketPair();
  expect(received(other)).toBe(EAGAIN);
  one.close();
  expect(received(other)).toMatchObject({ text: '', descriptors: [] });
  expect(other.send(Buffer.from('x'), [])).toBe(-32);
});

test('a full socket is EAGAIN, not a wait', () => {
  const [one] = socketPair();
  const bytes = new Uint8Array(2 ** 20);
  let result = 0;
  for (let i = 0; i < 100 && result >= 0; i++) result = one.send(bytes, []);
  expect(result).toBe(EAGAIN);
});

test('listen, connect, accept; the socket is for its owner only', () => {
  const path = join(temporaryFolder(), 'socket');
  const listener = new (native().UnixSocket)(native().UnixSocket.listen(path, 4));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(listener.accept()).toBe(EAGAIN);
  const client = new (native().UnixSocket)(native().UnixSocket.connect(path));
  const server = new (native().UnixSocket)(listener.accept());
  client.send(Buffer.from('hi'), []);
  expect(received(server)).toMatchObject({ text: 'hi' });
  const [pid, uid, gid, pidfd] = server.peer() as [number, number, number, number];
  expect([pid, uid, gid]).toEqual([process.pid, process.getuid?.(), process.getgid?.()]);
  expect(readlinkSync(`/proc/self/fd/${pidfd}`)).toMatch(/pidfd/);
  expect(native().sendSignal(pidfd, 0)).toBe(0);
  for (const socket of [client, server, listener]) socket.close();
  native().closeFd(pidfd);
});

test('what listen and connect refuse', () => {
  const folder = temporaryFolder();
  const path = join(folder, 'socket');
  const listener = new (native().UnixSocket)(native().UnixSocket.listen(path, 1));
  expect(native().UnixSocket.listen(path, 1)).toBe(EADDRINUSE);
  listener.close();
  expect(native().UnixSocket.connect(path)).toBe(ECONNREFUSED);
  expect(native().UnixSocket.connect(join(folder, 'nothing'))).toBe(-2);
  const long = join(folder, 'x'.repeat(108));
  expect(native().UnixSocket.listen(long, 1)).toBe(ENAMETOOLONG);
  expect(native().UnixSocket.connect(long)).toBe(ENAMETOOLONG);
  expect(existsSync(long)).toBe(false);
});

test('the peer of what is no socket is an errno', () => {
  const socket = new (native().UnixSocket)(openSync('/dev/null', 'r'));
  expect(socket.peer()).toBeLessThan(0);
  expect(received(socket)).toBeLessThan(0);
  socket.close();
  expect(received(socket)).toBe(-9);
});
