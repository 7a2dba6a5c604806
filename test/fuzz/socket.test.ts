// A running server, and clients that send almost right messages with descriptors of all kinds: it refuses or serves them,
// and goes on.
import { openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Memfd, Userfaultfd } from '../../dist/index.js';
import { native } from '../../dist/native/load.js';
import { Serve, patternFile, resourcesOf, temporaryFolder, uffd, until } from '../e2e/support.js';
import { Random, mutated, seed } from './mutations.js';
import { handshakes } from './seeds.js';

const CLIENTS = 300;
const EAGAIN = -11;
const folder = temporaryFolder();

async function connected(path: string): Promise<number> {
  for (const until = performance.now() + 10_000; ;) {
    const fd = native().UnixSocket.connect(path);
    if (fd >= 0) return fd;
    // So many wait to be accepted that there is no place in the queue.
    if (fd !== EAGAIN || performance.now() > until) throw new Error(`connect: ${fd}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

it.each([
  ['clients with memory of their own', []],
  ['clones', ['--dialect', 'clones']],
])(`%s, seed ${seed}`, { timeout: 60_000 }, async (_, args) => {
  const snapshot = patternFile(folder, 64);
  const serve = await Serve.start(
    snapshot,
    join(folder, `${args.length}.sock`),
    '--handshake-timeout',
    '200ms',
    ...args,
  );
  const random = new Random(seed);
  const before = resourcesOf(serve.process.pid!).descriptors;
  using memfd = Memfd.create({ sizeBytes: 64 * 4096 });
  using userfaultfd = Userfaultfd.open();
  const file = openSync(snapshot, 'r');
  const descriptors = [userfaultfd.fd, memfd.fd, file];
  for (let i = 0; i < CLIENTS; i++) {
    const fd = await connected(serve.socket);
    const socket = new (native().UnixSocket)(fd);
    const bytes = mutated(random, handshakes);
    const sent = Array.from({ length: random.below(5) }, () => random.of(descriptors));
    // With what was closed already it fails, as it may.
    for (let at = 0; at < bytes.length;) {
      const end = random.below(3) === 0 ? at + 1 + random.below(32) : bytes.length;
      if (socket.send(bytes.subarray(at, end), at === 0 ? sent : []) < 0) break;
      at = end;
    }
    socket.close();
  }
  closeSync(file);
  const count = (name: string) => serve.events.filter(({ event }) => event === name).length;
  await until(() => count('refused') + count('session') === CLIENTS, 20_000);
  if (args.length === 0) {
    const { code } = await uffd(['touch', '--socket', serve.socket, '--size', '256K', '--json']);
    expect(code).toBe(0);
  }
  // This process keeps its address space, so sessions that were accepted stay.
  const kept = 8 * count('session');
  await until(() => resourcesOf(serve.process.pid!).descriptors <= before + kept);
  serve.kill('SIGKILL');
});
