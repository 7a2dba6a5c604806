// `uffd vmm` as its users run it: a guest, its snapshot, and its restore in every way; and what goes wrong.
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { milliseconds } from '../support/deadline.js';
import { lacks, requires } from '../support/requires.js';
import { Serve, type Finished, mainScript, temporaryFolder, uffd } from './support.js';

const folder = temporaryFolder();
const snapshot = join(folder, 'snap');
const MEMORY = 16 * 2 ** 20;
const PAGES = MEMORY / 4096;
let checksum: string;

function checksumOf({ stdout, stderr, code }: Finished): string {
  expect(code, stderr).toBe(0);
  const found = /^checksum: ([0-9a-f]{16})$/m.exec(stdout)?.[1];
  expect(found, stdout).toBeDefined();
  return found!;
}

interface Report {
  checksum: string;
  way: string;
  vcpus: number;
  pages: number;
  pagesServed: number;
  pagesNeverTouched: number;
  faults: number;
  latencyUs: number;
  toFirstRunMs: number;
  toChecksumMs: number;
  processToFirstRunMs: number;
}

async function restored(...args: string[]): Promise<Report> {
  const { code, stdout, stderr } = await uffd(['vmm', 'restore', snapshot, '--json', ...args]);
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Report;
}

beforeAll(async () => {
  if (lacks('kvm', 'uffd', 'uffd-minor')) return;
  checksum = checksumOf(await uffd(['vmm', 'run', '--memory', '16M', '--snapshot', snapshot, '--quiet']));
});

beforeEach((context) => {
  requires(context, 'kvm', 'uffd', 'uffd-minor', 'uffd-poison');
});

describe('run', () => {
  test('the checksum is that of the words the guest writes', () => {
    const factor = 0x9e3779b97f4a7c15n;
    let sum = 0n;
    for (let at = 0x100000n; at < BigInt(MEMORY); at += 4088n) sum += at * factor;
    expect(checksum).toBe(BigInt.asUintN(64, sum).toString(16).padStart(16, '0'));
  });

  test('more vCPUs and a stride of its own; restored with fewer and more', async () => {
    const other = join(folder, 'other');
    const run = ['vmm', 'run', '--memory', '8M', '--vcpus', '3', '--stride', '512', '--snapshot', other, '--json'];
    const { code, stdout, stderr } = await uffd(run);
    expect(code, stderr).toBe(0);
    const report = JSON.parse(stdout) as Report & { writtenBytes: number; memoryBytes: number };
    expect(report).toMatchObject({ memoryBytes: 8 * 2 ** 20, vcpus: 3 });
    expect(report.writtenBytes).toBeGreaterThanOrEqual(7 * 2 ** 20);
    for (const vcpus of ['1', '2', '4']) {
      expect(checksumOf(await uffd(['vmm', 'restore', other, '--vcpus', vcpus])), vcpus).toBe(report.checksum);
    }
  });

  test.each([
    [['--memory', '3M'], 2, /Give 4M to 3G, in steps of 2M/],
    [['--memory', '4G'], 2, /Give 4M to 3G/],
    [['--memory', 'much'], 2, /--memory/],
    [['--vcpus', '5'], 2, /--vcpus/],
    [['--stride', '12'], 2, /Give a multiple of 8/],
  ])('%j is refused', async (args, status, reason) => {
    const { code, stderr } = await uffd(['vmm', 'run', '--snapshot', join(folder, 'never'), ...args]);
    expect(stderr).toMatch(reason);
    expect(code).toBe(status);
    expect(existsSync(join(folder, 'never'))).toBe(false);
  });
});

describe('restore', () => {
  test('as the README shows it', async () => {
    expect(checksumOf(await uffd(['vmm', 'restore', snapshot, '--lazy']))).toBe(checksum);
  });

  test.each([
    ['memfd', 'minor'],
    ['memfd', 'missing'],
    ['anon', 'missing'],
  ])('lazily, %s, %s', async (kind, mode) => {
    const report = await restored('--memory-kind', kind, '--mode', mode, '--fault-around', '1');
    expect(report).toMatchObject({ checksum, way: 'lazy', vcpus: 1, pages: PAGES });
    // The guest reads every page from 1 MiB on, the code, the stack, and three levels of page tables.
    // How often the vCPU slept: now and then a page is there before it does.
    expect(report.faults).toBeGreaterThan((PAGES - 256) * 0.9);
    expect(report.pagesServed).toBeGreaterThanOrEqual(PAGES - 256 + 5);
    expect(report.pagesServed).toBeLessThan(PAGES - 200);
    expect(report.pagesNeverTouched).toBe(PAGES - report.pagesServed);
    expect(report.latencyUs).toBeGreaterThan(0);
    expect(report.processToFirstRunMs).toBeGreaterThan(report.toFirstRunMs);
  });

  test('eagerly: no faults', async () => {
    expect(await restored('--eager')).toMatchObject({ checksum, way: 'eager', faults: 0, pagesServed: PAGES });
  });

  test('several vCPUs fault at once', async () => {
    expect(await restored('--vcpus', '4', '--fault-around', '1')).toMatchObject({ checksum, vcpus: 4 });
  });

  test('from a server that is there already, and stays', async () => {
    const memory = readdirSync(snapshot).find((name) => name.startsWith('memory-'))!;
    const serve = await Serve.start(join(snapshot, memory), join(folder, 'uffd.sock'));
    for (let time = 0; time < 2; time++) {
      expect(checksumOf(await uffd(['vmm', 'restore', snapshot, '--socket', serve.socket]))).toBe(checksum);
    }
    expect(await serve.stop()).toBe(0);
  });

  test('huge pages', async (context) => {
    requires(context, 'root', 'hugetlb-2M');
    const pool = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages';
    const before = Number(readFileSync(pool, 'utf8'));
    writeFileSync(pool, `${before + MEMORY / 2 ** 21}`);
    onTestFinished(() => {
      writeFileSync(pool, `${before}`);
    });
    if (Number(readFileSync(pool, 'utf8')) < before + MEMORY / 2 ** 21)
      context.skip('hugetlb-2M: no memory for the pool');
    for (const mode of ['minor', 'missing']) {
      expect(await restored('--memory-kind', 'hugetlb', '--mode', mode)).toMatchObject({
        checksum,
        pages: MEMORY / 2 ** 21,
      });
    }
  });

  test('huge pages without a pool: says which sysctl', async (context) => {
    const free = Number(readFileSync('/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages', 'utf8'));
    if (free > 0) context.skip('hugetlb-2M: there are free huge pages');
    const { code, stderr } = await uffd(['vmm', 'restore', snapshot, '--memory-kind', 'hugetlb']);
    expect(stderr).toMatch(/^uffd: ENOMEM: .*too few free huge pages of 2 MiB: see sysctl vm\.nr_hugepages/);
    expect(code).toBe(1);
  });

  test('guest_memfd: eagerly; lazily where the kernel registers it, else with the reason', async (context) => {
    requires(context, 'guest-memfd');
    expect(await restored('--memory-kind', 'guest_memfd', '--eager')).toMatchObject({ checksum });
    for (const mode of ['minor', 'missing']) {
      const lazily = ['vmm', 'restore', snapshot, '--memory-kind', 'guest_memfd', '--mode', mode];
      const { code, stdout, stderr } = await uffd(lazily);
      if (code === 0) expect(stdout).toContain(checksum);
      else expect(stderr).toMatch(/^uffd: this kernel cannot register guest_memfd .*mainline up to 7\.3/);
    }
  });

  test.each([
    [['--memory-kind', 'anon', '--mode', 'minor'], 2, /--memory-kind anon has no --mode minor/],
    [['--eager', '--mode', 'missing'], 2, /cannot be used with option '--mode/],
    [['--lazy', '--eager'], 2, /cannot be used with/],
    [['--mode', 'wp'], 2, /Allowed choices are minor, missing/],
    [['--vcpus', '0'], 2, /--vcpus/],
    [['--socket', join(folder, 'nobody.sock')], 1, /^uffd: ENOENT: .*connect .*nobody\.sock/],
  ])('%j is refused', async (args, status, reason) => {
    const { code, stdout, stderr } = await uffd(['vmm', 'restore', snapshot, ...args]);
    expect(stderr).toMatch(reason);
    expect([code, stdout]).toEqual([status, '']);
  });
});

describe('a snapshot that is not what it was', () => {
  test.each([
    [
      'corrupt',
      (file: string) => {
        const bytes = readFileSync(file);
        bytes[2 ** 20 + 4088]! ^= 0x80;
        writeFileSync(file, bytes);
      },
      /its memory is corrupt/,
    ],
    [
      'truncated',
      (file: string) => {
        writeFileSync(file, readFileSync(file).subarray(4096));
      },
      /truncated, or half written/,
    ],
  ])('%s: refused, lazily and eagerly; nothing is started', async (name, spoil, reason) => {
    // prettier-ignore
    const spoilt = join(folder, name);
    cpSync(snapshot, spoilt, { recursive: true });
    spoil(
      join(
        spoilt,
        readdirSync(spoilt).find((file) => file.startsWith('memory-'))!,
      ),
    );
    for (const way of ['--lazy', '--eager']) {
      const { code, stdout, stderr } = await uffd(['vmm', 'restore', spoilt, way]);
      expect(stderr).toMatch(reason);
      expect([code, stdout]).toEqual([1, '']);
    }
  });

  test('none at all', async () => {
    const { code, stderr } = await uffd(['vmm', 'restore', join(folder, 'nowhere')]);
    expect(stderr).toMatch(/^uffd: the snapshot cannot be used: ENOENT/);
    expect(code).toBe(1);
  });

  test('a source that tells other bytes: the guest finds them', async () => {
    const bytes = readFileSync(
      join(
        snapshot,
        readdirSync(snapshot).find((name) => name.startsWith('memory-'))!,
      ),
    );
    bytes[2 ** 20]! ^= 1;
    const other = join(folder, 'other-bytes');
    writeFileSync(other, bytes);
    const serve = await Serve.start(other, join(folder, 'other.sock'));
    const { code, stderr } = await uffd(['vmm', 'restore', snapshot, '--socket', serve.socket]);
    expect(stderr).toMatch(/^uffd: the guest found wrong bytes at 0x100000 \(vCPU 0\)/);
    expect(code).toBe(1);
    await serve.stop();
  });
});

/** A restore whose server takes its time for every page. */
function slowRestore(...args: string[]) {
  const vmm = spawn(process.execPath, [mainScript, 'vmm', 'restore', snapshot, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void vmm.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  vmm.stdout.on('data', (data: Buffer) => (output.stdout += data.toString()));
  vmm.stderr.on('data', (data: Buffer) => (output.stderr += data.toString()));
  return { vmm, output, ended: ended(vmm) };
}

function ended(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
}

describe('in the middle of a restore', () => {
  /** Stopped servers answer nothing: the guest waits for its first page. */
  async function waiting(...args: string[]) {
    const memory = readdirSync(snapshot).find((name) => name.startsWith('memory-'))!;
    const socket = join(folder, `middle-${Math.random().toString(36).slice(2)}.sock`);
    const serve = await Serve.start(join(snapshot, memory), socket, '--fault-around', '1');
    const restore = slowRestore('--socket', socket, ...args);
    await serve.event('session');
    serve.kill('SIGSTOP');
    onTestFinished(() => {
      serve.kill('SIGKILL');
    });
    await delay(200);
    return { serve, ...restore };
  }

  test.each([[['--memory-kind', 'memfd']], [['--memory-kind', 'anon']], [['--vcpus', '4', '--mode', 'missing']]])(
    'the fault server is killed, %j: said within a second, never a zero',
    async (args) => {
      const { serve, ended, output } = await waiting(...args);
      const killed = performance.now();
      serve.kill('SIGKILL');
      expect(await ended).toEqual({ code: 1, signal: null });
      expect(performance.now() - killed).toBeLessThan(milliseconds(1000));
      expect(output.stderr).toMatch(/^uffd: the fault server is gone: the connection has ended/);
      expect(output.stdout).toBe('');
    },
  );

  test('the fault server is killed before it listens', async () => {
    const { vmm, ended, output } = slowRestore();
    const children = () => readFileSync(`/proc/${vmm.pid}/task/${vmm.pid}/children`, 'utf8').trim();
    for (let waited = 0; children() === '' && waited < 10_000; waited += 5) await delay(5);
    process.kill(Number(children().split(' ')[0]), 'SIGKILL');
    expect(await ended).toEqual({ code: 1, signal: null });
    expect(output).toEqual({
      stdout: '',
      stderr: 'uffd: the fault server did not start: see its message above, or somebody has killed it\n',
    });
  });

  test('SIGTERM ends the VMM', async () => {
    const { vmm, ended, output } = await waiting();
    vmm.kill('SIGTERM');
    expect(await ended).toEqual({ code: 1, signal: null });
    expect(output.stderr).toMatch(/^uffd: stopped by SIGTERM/);
  });

  test('the VMM is killed: its server goes too, and leaves nothing', async () => {
    const { vmm, ended } = slowRestore('--fault-around', '1');
    const sockets = () => readdirSync(tmpdir()).filter((name) => name.startsWith(`uffd-vmm-${vmm.pid}-`));
    for (let waited = 0; sockets().length === 0 && waited < 5000; waited += 20) await delay(20);
    // Time for the server to say that it listens, none for the guest to be done.
    vmm.kill('SIGSTOP');
    await delay(300);
    vmm.kill('SIGKILL');
    expect(await ended).toMatchObject({ signal: 'SIGKILL' });
    for (let waited = 0; sockets().length > 0 && waited < 5000; waited += 20) await delay(20);
    expect(sockets()).toEqual([]);
  });
});

test('the memory file is as sparse as the memory', () => {
  const memory = join(
    snapshot,
    readdirSync(snapshot).find((name) => name.startsWith('memory-'))!,
  );
  expect(statSync(memory).size).toBe(MEMORY);
  expect(statSync(memory).blocks * 512).toBeLessThan(MEMORY - 200 * 4096);
});
