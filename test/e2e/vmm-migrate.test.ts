// Post-copy: a guest goes on in another process while its memory still comes; and what the other side may do wrong.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { type Server, type Socket, createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type VcpuSnapshot, manifestText } from '../../dist/vmm/manifest.js';
import { FrameKind, onFrames, sendFrame } from '../../dist/vmm/migration-wire.js';
import { type OpenedSnapshot, openSnapshot } from '../../dist/vmm/snapshot.js';
import { milliseconds } from '../support/deadline.js';
import { lacks, requires } from '../support/requires.js';
import { mainScript, temporaryFolder, uffd, until } from './support.js';

const folder = temporaryFolder();
const snapshotFolder = join(folder, 'snap');
let snapshot: OpenedSnapshot;
let checksum: string;
const largeFolder = join(folder, 'large');
let count = 0;

beforeAll(async () => {
  if (lacks('kvm', 'uffd', 'uffd-minor')) return;
  const run = ['vmm', 'run', '--memory', '16M', '--vcpus', '2', '--snapshot', snapshotFolder, '--json'];
  checksum = (JSON.parse((await uffd(run)).stdout) as { checksum: string }).checksum;
  snapshot = await openSnapshot(snapshotFolder);
  await uffd(['vmm', 'run', '--memory', '64M', '--vcpus', '2', '--snapshot', largeFolder]);
});

beforeEach((context) => {
  requires(context, 'kvm', 'uffd', 'uffd-minor', 'uffd-poison');
});

/** `uffd vmm receive --json`, listening. */
async function receiver() {
  const socket = join(folder, `receive-${count++}.sock`);
  const child = spawn(process.execPath, [mainScript, 'vmm', 'receive', '--listen', socket, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (data: Buffer) => (output.stdout += data.toString()));
  const ended = new Promise<{ code: number | null; seconds: () => number }>((resolve) => {
    child.on('close', (code) => {
      const at = performance.now();
      resolve({ code, seconds: () => at / 1000 });
    });
  });
  await new Promise<void>((resolve) => {
    child.stderr.on('data', (data: Buffer) => {
      output.stderr += data.toString();
      if (output.stderr.includes('listening')) resolve();
    });
  });
  return { socket, child, output, ended };
}

/** What the open descriptors of a process are, by the names that the kernel has for them. */
function descriptorsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

/** A source of our own, which does as it is told. */
function source(path: string): Socket {
  const socket = createConnection(path);
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** A vCPU that verifies from that word on: kvm_regs.rsi. */
function startingAt(vcpu: VcpuSnapshot, start: number): VcpuSnapshot {
  const registers = Buffer.from(vcpu.registers, 'base64');
  registers.writeBigUInt64LE(BigInt(start), 4 * 8);
  return { ...vcpu, registers: registers.toString('base64') };
}

const stateOf = () => Buffer.from(manifestText(snapshot.manifest));

describe('run --to', () => {
  test('a running guest moves, without a snapshot, and goes on with its memory', async () => {
    const { socket, output, ended } = await receiver();
    const run = ['vmm', 'run', '--memory', '16M', '--vcpus', '2', '--to', socket, '--json'];
    const { code, stdout, stderr } = await uffd(run);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ checksum, pages: 4096, pagesSent: 4096, pagesSentTwice: 0 });
    expect((await ended).code, output.stderr).toBe(0);
    expect(JSON.parse(output.stdout)).toMatchObject({ checksum, vcpus: 2 });
  });

  test('the source is killed when the guest has moved, and its memory has not: never a zero', async () => {
    const { socket, child, output, ended } = await receiver();
    const run = spawn(process.execPath, [mainScript, 'vmm', 'run', '--memory', '512M', '--to', socket], {
      stdio: 'ignore',
    });
    onTestFinished(() => void run.kill('SIGKILL'));
    // Its state has come; its memory takes longer.
    await until(() => descriptorsOf(child.pid!).some((name) => name.includes('kvm-vcpu')), 25_000);
    run.kill('SIGKILL');
    const killed = performance.now() / 1000;
    const { code, seconds } = await ended;
    expect(code).toBe(1);
    expect(seconds() - killed).toBeLessThan(milliseconds(1000) / 1000);
    expect(output.stderr).toMatch(/^uffd: the source of the guest is gone/m);
    expect(output.stdout).toBe('');
  });

  test.each([
    [[], /required option '--snapshot <folder>' or '--to <path>' not specified/],
    [['--to', 'x.sock', '--snapshot', 'x'], /cannot be used with/],
  ])('%j is wrong usage', async (args, reason) => {
    const { code, stderr } = await uffd(['vmm', 'run', ...args]);
    expect(stderr).toMatch(reason);
    expect(code).toBe(2);
  });

  test('nobody listens', async () => {
    const { code, stderr } = await uffd(['vmm', 'run', '--memory', '4M', '--to', join(folder, 'nobody.sock')]);
    expect(stderr).toMatch(/^uffd: .*connect ENOENT/m);
    expect(code).toBe(1);
  });
});

describe('receive', () => {
  test('the guest goes on with the same memory, and every page is sent once', async () => {
    const { socket, output, ended } = await receiver();
    const { code, stdout, stderr } = await uffd(['vmm', 'migrate', snapshotFolder, '--to', socket, '--json']);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ pages: 4096, pagesSent: 4096, pagesSentTwice: 0 });
    expect((await ended).code, output.stderr).toBe(0);
    const report = JSON.parse(output.stdout) as Record<string, number>;
    expect(report).toMatchObject({ checksum, vcpus: 2, memoryBytes: 16 * 2 ** 20 });
    expect(report['faults']).toBeGreaterThan(0);
    expect(existsSync(socket)).toBe(false);
  });

  test('over a slow link, a page that a vCPU waits for comes long before its turn', async () => {
    const { socket, output, ended } = await receiver();
    const big = await openSnapshot(largeFolder);
    const { memory, work } = big.manifest;
    // Verifying begins near the end of the memory, where the stream comes last.
    const words = Math.floor((memory.sizeBytes * 7) / 8 / work.strideBytes);
    const start = work.start + words * work.strideBytes;
    const state = { ...big.manifest, vcpus: big.manifest.vcpus.map((vcpu) => startingAt(vcpu, start)) };
    const requests: { readonly offset: number; readonly length: number }[] = [];
    const fd = openSync(big.memoryPath, 'r');
    onTestFinished(() => {
      closeSync(fd);
    });
    const peer = source(socket);
    // One answer after the other, in the order they were asked for.
    let link: Promise<void> = Promise.resolve();
    onFrames(peer, ({ kind, offset, length }) => {
      if (kind !== FrameKind.read) return;
      requests.push({ offset, length });
      link = link.then(async () => {
        await delay(milliseconds(length / 2 ** 16));
        const bytes = Buffer.alloc(length);
        readSync(fd, bytes, 0, length, offset);
        sendFrame(peer, FrameKind.bytes, offset, 0, bytes);
      });
    });
    sendFrame(peer, FrameKind.state, 0, 0, Buffer.from(manifestText(state)));
    expect((await ended).code, output.stderr).toBe(0);
    // What comes along with a page somebody waits for is 64 pages at most; the stream asks for more at once.
    const along = 64 * 4096;
    const streamed = (until: number) => requests.slice(0, until).filter(({ length }) => length > along).length;
    const waitedFor = requests.flatMap(({ offset, length }, at) =>
      offset + length > start && length <= along ? [at] : [],
    );
    expect(waitedFor.length).toBeGreaterThan(16);
    // The stream begins before the guest does, and where guests are slow it is ahead by some parts: far from 7/8 of them.
    const before = streamed(waitedFor[0]!);
    expect(before).toBeLessThanOrEqual(16);
    // Three parts of the stream are under way at a time, and as many may follow while the guest goes on to the next page.
    waitedFor.slice(1, 16).forEach((at, which) => {
      expect(streamed(at) - before).toBeLessThanOrEqual(4 * (which + 1));
    });
    expect(streamed(requests.length)).toBeGreaterThan(100);
  });

  test('the source dies in the middle: said within a second, never a zero', async () => {
    const { socket, output, ended } = await receiver();
    const peer = source(socket);
    let reads = 0;
    let died = 0;
    onFrames(peer, () => {
      // The first page of the guest is never answered.
      if (++reads === 1) setTimeout(() => {
        died = performance.now() / 1000;
        peer.destroy();
      }, 200); // prettier-ignore
    });
    sendFrame(peer, FrameKind.state, 0, 0, stateOf());
    const { code, seconds } = await ended;
    expect(code).toBe(1);
    expect(seconds() - died).toBeLessThan(milliseconds(1000) / 1000);
    expect(output.stderr).toMatch(/^uffd: the source of the guest is gone: /m);
    expect(output.stdout).toBe('');
  });

  test.each<[string, (peer: Socket) => void, RegExp]>([
    ['nonsense', (peer) => void peer.write('GET / HTTP/1.1\r\nHost: example\r\n\r\n'), /does not speak the protocol/],
    [
      'a state that is none',
      (peer) => {
        sendFrame(peer, FrameKind.state, 0, 0, Buffer.from('{}'));
      },
      /not one of a snapshot/,
    ],
    [
      'a state that was changed',
      (peer) => {
        sendFrame(
          peer,
          FrameKind.state,
          0,
          0,
          Buffer.from(stateOf().toString().replace('"strideBytes": 4088', '"strideBytes": 4096')),
        );
      },
      /has been changed/,
    ],
    [
      'bytes nobody wanted',
      (peer) => {
        sendFrame(peer, FrameKind.bytes, 0, 0, Buffer.alloc(4096));
      },
      /what was not asked for/,
    ],
    [
      'fewer bytes than wanted',
      (peer) => {
        onFrames(peer, ({ offset }) => {
          sendFrame(peer, FrameKind.bytes, offset, 0, Buffer.alloc(1));
        });
        sendFrame(peer, FrameKind.state, 0, 0, stateOf());
      },
      /what was not asked for/,
    ],
    ['a word, and goes', (peer) => void peer.end('x'), /is gone/],
  ])('a source that sends %s is refused', async (_, behave, reason) => {
    // prettier-ignore
    const { socket, output, ended } = await receiver();
    const peer = source(socket);
    peer.on('connect', () => {
      behave(peer);
    });
    expect((await ended).code).toBe(1);
    expect(output.stderr).toMatch(reason);
    expect(output.stdout).toBe('');
  });

  test('who says nothing is no source: the next one is', async () => {
    const { socket, ended } = await receiver();
    source(socket).end();
    source(socket);
    expect((await uffd(['vmm', 'migrate', snapshotFolder, '--to', socket])).code).toBe(0);
    expect((await ended).code).toBe(0);
  });

  test('SIGTERM while it listens', async () => {
    const { socket, child, output, ended } = await receiver();
    child.kill('SIGTERM');
    expect((await ended).code).toBe(1);
    expect(output.stderr).toMatch(/^uffd: stopped by SIGTERM/m);
    expect(existsSync(socket)).toBe(false);
  });

  test('a socket that is in use, and a file that is none, stay', async () => {
    const { socket } = await receiver();
    const file = join(folder, 'a-file');
    writeFileSync(file, 'mine');
    for (const path of [socket, file]) {
      const { code, stderr } = await uffd(['vmm', 'receive', '--listen', path]);
      expect(stderr).toMatch(/^uffd: .*(a live process listens|is not a socket)/);
      expect(code).toBe(1);
      expect(existsSync(path)).toBe(true);
    }
  });
});

describe('migrate', () => {
  /** A destination of our own. */
  function destination(use: (socket: Socket) => void): string {
    const path = join(folder, `migrate-${count++}.sock`);
    const server: Server = createServer((socket) => {
      socket.on('error', () => undefined);
      use(socket);
    }).listen(path);
    onTestFinished(() => void server.close());
    return path;
  }

  const migrate = (path: string) => uffd(['vmm', 'migrate', snapshotFolder, '--to', path, '--json']);

  test.each([
    ['beyond the end', 2 ** 24, 4096],
    ['across the end', 2 ** 24 - 4096, 8192],
    ['no whole pages', 0, 5000],
    ['nothing', 0, 0],
    ['an offset that is none', 2 ** 52 + 4096, 4096],
  ])('a destination that asks for %s is refused', async (_, offset, length) => {
    const path = destination((socket) => {
      sendFrame(socket, FrameKind.read, offset, length);
    });
    const { code, stdout, stderr } = await migrate(path);
    expect(stderr).toMatch(/^uffd: the destination asks for what is no memory of the guest/);
    expect([code, stdout]).toEqual([1, '']);
  });

  test('a destination that goes before it has everything', async () => {
    const { code, stderr } = await migrate(destination((socket) => void socket.end()));
    expect(stderr).toMatch(/^uffd: the destination has gone/);
    expect(code).toBe(1);
  });

  test('pages that are asked for twice are counted', async () => {
    const path = destination((socket) => {
      let frames = 0;
      onFrames(socket, () => {
        if (++frames === 3) sendFrame(socket, FrameKind.done);
      });
      for (let time = 0; time < 2; time++) sendFrame(socket, FrameKind.read, 0, 8192);
    });
    const { code, stdout, stderr } = await migrate(path);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ pages: 4096, pagesSent: 2, pagesSentTwice: 2 });
  });

  test('nobody listens; no snapshot', async () => {
    expect((await migrate(join(folder, 'nobody.sock'))).stderr).toMatch(/^uffd: connect ENOENT /);
    const { code, stderr } = await uffd(['vmm', 'migrate', join(folder, 'none'), '--to', join(folder, 'x.sock')]);
    expect(stderr).toMatch(/^uffd: the snapshot cannot be used/);
    expect(code).toBe(1);
  });
});
