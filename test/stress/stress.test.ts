// `uffd stress`: every memory for a while (UFFD_STRESS_SECONDS, 5 by default), and how a run ends. Huge pages are here
// too: the lock on their pool is held for the whole file.
import { totalmem } from 'node:os';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test } from 'vitest';
import { ReservedHugePages } from '../../dist/stress/huge-pages.js';
import { stressMemories } from '../../dist/stress/report.js';
import { stress as runStress } from '../../dist/stress/stress.js';
import type { StressMemory, StressReport } from '../../lib/stress/report.js';
import type { StressOptions } from '../../lib/stress/stress.js';
import { Program, root } from '../examples/sandbox.js';
import { runProgram, runScript } from '../support/child.js';
import { milliseconds } from '../support/deadline.js';
import { HUGE, freeInPool, poolSize, reserveHugePages } from '../support/huge-pages.js';
import { requires } from '../support/requires.js';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const seconds = Number(process.env['UFFD_STRESS_SECONDS'] ?? 5);
/** What a run says that needs so many huge pages; the machine may have some already. */
const reserving = (pages: number) =>
  `uffd stress: reserving ${pages - freeInPool()} huge pages of 2 MiB for the time of the run\n`;

const noPool = reserveHugePages(0);

function requiresFor(memory: StressMemory, context: Parameters<typeof requires>[0]): void {
  requires(context, 'uffd', 'uffd-minor');
  if (!memory.startsWith('hugetlb')) return;
  requires(context, 'root', 'hugetlb-2M');
  const why = noPool();
  if (why !== undefined) context.skip(`hugetlb-2M: ${why}`);
}

function stress(...args: string[]): Program {
  return new Program(process.execPath, [cli, 'stress', ...args], root);
}

/** Returns once the pool is as large as that: pages of a killed process are freed when it has gone. */
async function poolBecomes(pages: number): Promise<void> {
  for (let waited = 0; waited < milliseconds(10_000) && poolSize() !== pages; waited += 20) await delay(20);
  expect(poolSize()).toBe(pages);
}

describe.each(stressMemories)('--memory %s', (memory) => {
  const shared = memory === 'shmem' || memory === 'hugetlb';

  test(`for ${seconds} seconds: no page is wrong`, { timeout: (seconds + 100) * 1000 }, async (context) => {
    requiresFor(memory, context);
    const args = ['--memory', memory, '--seconds', String(seconds), '--json'];
    const before = poolSize();
    const said = memory.startsWith('hugetlb') ? reserving(32) : '';
    const { status, stdout, stderr } = await stress(...args).ended((seconds + 60) * 1000);
    const report = JSON.parse(stdout) as StressReport;
    expect(report).toMatchObject({ schema: 1, memory, wrongPages: 0, unexpected: [] });
    expect({ status, stderr }).toEqual({ status: 0, stderr: said });
    expect(report).not.toHaveProperty('stalled');
    const { bounces, pages, already } = report;
    for (const count of [report.missing, report.wp, already.provoked, already.raced]) expect(count).toBeGreaterThan(0);
    expect(report.minor > 0).toBe(shared);
    for (const count of Object.values(bounces)) expect(count).toBeGreaterThan(0);
    expect(bounces.polling + bounces.blocking).toBe(bounces.all);
    expect(report.verified).toBeGreaterThanOrEqual(bounces.all * pages);
    // All threads change all pages, but in the last bounce.
    expect(report.changed).toBeGreaterThanOrEqual((bounces.all - 1) * pages * report.threads);
    expect(report.seconds).toBeGreaterThanOrEqual(seconds);
    await poolBecomes(before);
  });
});

describe('the end of a run', () => {
  beforeEach((context) => {
    requiresFor('shmem', context);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s: a report of what was done', async (signal) => {
    const run = stress('--memory', 'shmem', '--seconds', '600', '--size', '8M', '--json');
    // A bounce or two of all of it.
    await delay(milliseconds(2500));
    run.kill(signal);
    const { status, stdout, stderr } = await run.ended(15_000);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const { pages, bounces, verified, changed } = JSON.parse(stdout) as StressReport;
    expect(verified).toBeGreaterThanOrEqual(bounces.all * pages);
    expect(changed).toBeGreaterThan(0);
  });

  test('huge pages are given back when it is killed', async (context) => {
    requiresFor('hugetlb', context);
    const [before, free] = [poolSize(), freeInPool()];
    const run = stress('--memory', 'hugetlb', '--seconds', '600', '--size', '8M', '--json');
    await poolBecomes(before + 8 - free);
    // In the midst of a bounce.
    await delay(milliseconds(500));
    run.kill('SIGKILL');
    expect((await run.ended()).status).toBeNull();
    await poolBecomes(before);
  });

  test('huge pages are given back when its whole process group is interrupted', async (context) => {
    requiresFor('hugetlb', context);
    const [before, free] = [poolSize(), freeInPool()];
    const run = stress('--memory', 'hugetlb-private', '--seconds', '600', '--size', '8M', '--json');
    await poolBecomes(before + 8 - free);
    process.kill(-run.pid, 'SIGINT');
    expect((await run.ended()).status).toBe(0);
    await poolBecomes(before);
  });

  test('more huge pages than the machine has: said so, and none are kept', async (context) => {
    requiresFor('hugetlb', context);
    const before = poolSize();
    const size = Math.min(totalmem(), 2 ** 42);
    const { status, stderr } = await stress('--memory', 'hugetlb', '--size', `${size}`).ended(60_000);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^uffd: \d+ free huge pages of 2 MiB are needed, there are \d+, and memory for \d+ more: give a smaller --size\n$/,
    );
    await poolBecomes(before);
  });
});

test.for(['hugetlb', 'hugetlb-private'] as const)(
  '--memory %s: a wrong answer is a wrong page',
  async (memory, context) => {
    requiresFor(memory, context);
    const pages = await ReservedHugePages.reserve(8, () => undefined);
    const options: StressOptions = { memory, sizeBytes: 4 * HUGE, seconds: 2, threads: 4, handlers: 3 };
    const mistaken: StressOptions = { ...options, mistake: 'wrong-page' };
    try {
      expect(await runStress(options)).toMatchObject({ wrongPages: 0 });
      expect((await runStress(mistaken)).wrongPages).toBeGreaterThan(0);
    } finally {
      await pages[Symbol.asyncDispose]();
    }
  },
);

test('without root the missing huge pages are an error that names the remedy', async (context) => {
  requiresFor('hugetlb', context);
  const { stdout, status, stderr } = await runScript(new URL('./reserve-as-nobody.mjs', import.meta.url));
  expect(status, stderr).toBe(0);
  expect(stdout).toMatch(
    /^ERR_OUT_OF_RANGE: \d+ free huge pages of 2 MiB are needed, there are \d+: run this as root, or as root raise/,
  );
});

test('the report for people, and no progress line where there is no terminal', async (context) => {
  requiresFor('anon', context);
  const { status, stdout, stderr } = await stress('--seconds', '1', '--size', '1M', '--threads', '2').ended();
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(/^anon: 256 pages of \d+ bytes \(missing, wp\), 2 threads, 3 handlers, \d/);
  expect(stdout).toMatch(/wrong pages +│ +0 │/);
});

test('a progress line on a terminal, unless --quiet', async (context) => {
  requiresFor('anon', context);
  requires(context, 'python3');
  const pty = 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))';
  const args = ['-c', pty, process.execPath, cli, 'stress', '--seconds', '1', '--size', '1M', '--json'];
  const shown = await runProgram('python3', args, 20_000);
  expect(shown.stdout).toMatch(/\[\d\/1 s\] \d+ bounces, \d+ missing, 0 minor, \d+ wp, 0 wrong pages/);
  expect(shown.status).toBe(0);
  const quiet = await runProgram('python3', [...args, '--quiet'], 20_000);
  expect(quiet.stdout).toMatch(/^{"schema":1.*}\s*$/);
});

test.each([
  ['--memory', 'file'],
  ['--seconds', '0'],
  ['--size', '12Q'],
  ['--threads', '0'],
  ['--handlers', 'many'],
])('%s %s is a usage error', async (option, value) => {
  const { status, stderr } = await stress(option, value).ended();
  expect(status).toBe(2);
  expect(stderr).toContain(option);
});

test('more memory than is free is refused before any is taken', async (context) => {
  requiresFor('anon', context);
  const { status, stderr } = await stress('--size', `${totalmem()}`).ended();
  expect(status).toBe(1);
  expect(stderr).toMatch(
    /^uffd: (two areas need \d+ MiB, and \d+ MiB are free: give a smaller --size|at most .* bytes an area)\n$/,
  );
});

test('many handlers and threads, and not a warning', async (context) => {
  requiresFor('shmem', context);
  const args = ['--memory', 'shmem', '--size', '1M', '--seconds', '1', '--threads', '32', '--handlers', '16', '--json'];
  const { status, stdout, stderr } = await stress(...args).ended();
  expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: '' });
});

test('a size that no page can say its number of is refused', async (context) => {
  requiresFor('anon', context);
  const { status, stderr } = await stress('--size', '1T').ended();
  expect(status).toBe(1);
  expect(stderr).toMatch(/^uffd: at most \d+ pages and \d+ bytes an area\n$/);
});
