// Every example, run as its first line says, with a real second process.
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { requires } from '../support/requires.js';
import { Program, installedFolder, root } from './sandbox.js';

const PAGE = 4096;
const examples = join(root, 'examples');
const socket = './uffd.sock';

beforeEach((context) => {
  requires(context, 'uffd', 'uffd-minor');
});

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function example(folder: string, name: string, ...args: string[]): Program {
  return new Program(process.execPath, [join(examples, name), ...args], folder);
}

interface Served {
  readonly hash: string;
  readonly faults: number;
  readonly filledPages: number;
  readonly fetches: number;
}

/** Runs an example server, lets client.mjs read `size` bytes from it, and stops it. */
async function served(folder: string, size: number, name: string, ...args: string[]): Promise<Served> {
  const server = example(folder, name, ...args, socket);
  await server.says('listening');
  const client = await example(folder, 'client.mjs', socket, String(size)).ended();
  expect(client.stderr).toBe('');
  expect(client.status).toBe(0);
  await server.says('session 1 gone');
  server.kill('SIGTERM');
  const { status, stdout } = await server.ended();
  expect(status, server.stderr).toBe(0);
  expect(readdirSync(folder)).not.toContain('uffd.sock');
  const counts = /gone: (\d+) faults, (\d+) pages filled(?:, (\d+) fetches)?/.exec(stdout)!;
  const [faults = NaN, filledPages = NaN, fetches = NaN] = counts.slice(1).map(Number);
  return { hash: client.stdout.trim(), faults, filledPages, fetches };
}

function folderWithSnapshot(size: number): { folder: string; bytes: Buffer; file: string } {
  const folder = installedFolder();
  const bytes = randomBytes(size);
  writeFileSync(join(folder, 'snapshot.img'), bytes);
  return { folder, bytes, file: 'snapshot.img' };
}

test('export.mjs: the memory of one moment, while it is written to', async () => {
  const folder = installedFolder();
  const program = new Program(process.execPath, [join(examples, 'export.mjs'), 'memory.img', '64'], folder, {
    VERIFY: '1',
  });
  const { status, stdout, stderr } = await program.ended();
  expect(stderr).toBe('');
  expect(stdout).toMatch(/^16384 pages exported; writers halted for [\d.]+ ms, [1-9]\d* writes since\n/);
  expect(stdout).toMatch(/^[1-9]\d* pages saved because they were written to\n/m);
  expect(stdout).toContain('the export is the memory of that moment');
  expect(status).toBe(0);
});

test('readme.mjs: four faults, answered on the event loop', async () => {
  const { status, stdout, stderr } = await example(installedFolder(), 'readme.mjs').ended();
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(stdout.match(/missing fault/g)).toHaveLength(4);
});

describe('serve-a-file.mjs and client.mjs', () => {
  test('every byte of a file whose last page is not full', async () => {
    const { folder, bytes, file } = folderWithSnapshot(300 * PAGE + 1);
    const { hash, faults, filledPages } = await served(folder, bytes.length, 'serve-a-file.mjs', file);
    expect(hash).toBe(sha256(bytes));
    expect(filledPages).toBe(301);
    expect(faults).toBeGreaterThanOrEqual(301 / 16);
    expect(faults).toBeLessThan(60);
  });

  test('the client ends with an error when the server is killed', async () => {
    const { folder, bytes, file } = folderWithSnapshot(1000 * PAGE);
    const server = example(folder, 'serve-a-file.mjs', file, socket);
    await server.says('listening');
    process.kill(server.pid, 'SIGSTOP');
    const client = example(folder, 'client.mjs', socket, String(bytes.length));
    // Connected, or about to: the answer to its handshake never comes.
    await new Promise((resolve) => setTimeout(resolve, 500));
    server.kill('SIGKILL');
    const { status, stdout, stderr } = await client.ended(5000);
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain('ERR_SERVER_GONE');
  });

  test('a mapping that ends after the file is refused, with the reason', async () => {
    const { folder, file } = folderWithSnapshot(PAGE);
    const server = example(folder, 'serve-a-file.mjs', file, socket);
    await server.says('listening');
    const { status, stderr } = await example(folder, 'client.mjs', socket, String(2 * PAGE)).ended();
    expect(status).toBe(1);
    expect(stderr).toContain('ERR_HANDOFF_REFUSED');
    await server.says('refused: mapping 0: ends at 8192, after the last page of the source');
  });
});

test('own-policy: reads ahead, so that a sequential reader faults rarely', async () => {
  const { folder, bytes, file } = folderWithSnapshot(2000 * PAGE);
  const { hash, faults, filledPages } = await served(folder, bytes.length, 'own-policy/server.mjs', file);
  expect(hash).toBe(sha256(bytes));
  expect(filledPages).toBe(2000);
  // 1, 2, 4 ... 256, 256: far fewer than the 32 of the default window of 64 pages.
  expect(faults).toBeLessThan(25);
});

test('own-source/computed.mjs: answered in the serving worker, without a fetch', async () => {
  const bytes = Buffer.alloc(200 * PAGE);
  for (let at = 0; at < bytes.length; at += 8) bytes.writeBigUInt64LE(BigInt(at), at);
  const size = String(bytes.length);
  const { hash, faults, fetches } = await served(
    installedFolder(),
    bytes.length,
    'own-source/serve-computed.mjs',
    size,
  );
  expect(hash).toBe(sha256(bytes));
  expect(faults).toBeGreaterThan(0);
  expect(fetches).toBe(0);
});

test('own-source/compressed.mjs: inflated in fetch workers', async () => {
  const { folder, bytes, file } = folderWithSnapshot(200 * PAGE + 17);
  const { hash, fetches } = await served(folder, bytes.length, 'own-source/serve-compressed.mjs', file);
  expect(hash).toBe(sha256(bytes));
  expect(fetches).toBeGreaterThanOrEqual(13);
});

test('own-source/serve-http.mjs: range requests from the thread that made the server', async () => {
  const bytes = randomBytes(150 * PAGE + 5);
  const etag = '"1"';
  let ranges = 0;
  const http = createServer((request, response) => {
    if (request.method === 'HEAD') {
      response.writeHead(200, { etag, 'content-length': bytes.length }).end();
    } else if (request.headers['if-match'] !== etag) {
      response.writeHead(412).end();
    } else {
      ranges++;
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!;
      response.writeHead(206, { etag }).end(bytes.subarray(Number(first), Number(last) + 1));
    }
  });
  await new Promise<void>((resolve) => {
    http.listen(0, '127.0.0.1', resolve);
  });
  onTestFinished(() => {
    http.closeAllConnections();
    http.close();
  });
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/snapshot.img`;
  const { hash, fetches } = await served(installedFolder(), bytes.length, 'own-source/serve-http.mjs', url);
  expect(hash).toBe(sha256(bytes));
  expect(fetches).toBe(ranges);
});

test('no example is left out', () => {
  const files = readdirSync(examples, { recursive: true, withFileTypes: true });
  const names = files.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  expect(names.map((name) => name.slice(examples.length + 1)).sort()).toEqual([
    'c-client/client.c',
    'client.mjs',
    'export.mjs',
    'mini-vmm/README.md',
    'mini-vmm/guest.s',
    'mini-vmm/main.mjs',
    'own-policy/read-ahead.mjs',
    'own-policy/server.mjs',
    'own-source/compressed.mjs',
    'own-source/computed.mjs',
    'own-source/serve-compressed.mjs',
    'own-source/serve-computed.mjs',
    'own-source/serve-http.mjs',
    'readme.mjs',
    'serve-a-file.mjs',
    'serve.mjs',
  ]);
});
