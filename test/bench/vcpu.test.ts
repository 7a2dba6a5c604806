// `uffd bench vcpu --quick --json`: every row is there, and a number; huge pages are given back whatever ends the run.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { type VcpuReport, vcpuTrials } from '../../lib/bench/vcpu.js';
import { mainScript, uffd } from '../e2e/support.js';
import { milliseconds } from '../support/deadline.js';
import { poolSize, reserveHugePages } from '../support/huge-pages.js';
import { requires } from '../support/requires.js';

// None; but nobody else is to change the pool meanwhile.
reserveHugePages(0);

async function poolBecomes(pages: number): Promise<number> {
  for (let waited = 0; poolSize() !== pages && waited < milliseconds(10_000); waited += 50) await delay(50);
  return poolSize();
}

async function measured(...args: string[]): Promise<VcpuReport> {
  const { code, stdout, stderr } = await uffd(['bench', 'vcpu', '--quick', '--json', ...args], {
    timeoutMs: 100_000,
  });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as VcpuReport;
}

beforeEach((context) => {
  requires(context, 'kvm', 'uffd', 'uffd-minor');
});

describe('uffd bench vcpu', () => {
  const namesOf = (only = /^/) =>
    vcpuTrials.filter(({ control, name }) => control !== true && only.test(name)).map(({ name }) => name);

  test('measures every row: times, ratio and pages a second', { timeout: 120_000 }, async (context) => {
    requires(context, 'root', 'hugetlb-2M');
    const report = await measured();
    expect(report).toMatchObject({ schema: 1, quick: true });
    expect(report.comparisons.map(({ name }) => name)).toEqual(namesOf());
    for (const { name, unit, subject, reference, ratio, pagesPerSecond } of report.comparisons) {
      expect(unit).toBe('us');
      const times = [subject, reference].flatMap(({ median, min, max }) => [median, min, max]);
      const values = [ratio, ...times, pagesPerSecond.subject, pagesPerSecond.reference];
      for (const value of values) expect(value > 0 && Number.isFinite(value), `${name}: ${value}`).toBe(true);
      expect(pagesPerSecond.subject).toBeCloseTo(1e6 / subject.median, 3);
      expect(pagesPerSecond.reference).toBeCloseTo(1e6 / reference.median, 3);
    }
    expect(report.noise.controls.length).toBeGreaterThan(0);
  });

  test('measures a part, and without huge pages needs none', async () => {
    const report = await measured('--only', 'minor, shmem');
    expect(report.comparisons.map(({ name }) => name)).toEqual(namesOf(/minor, shmem/));
  });

  test('killed, it leaves no huge page behind', async (context) => {
    requires(context, 'root', 'hugetlb-2M');
    const before = poolSize();
    const child = spawn(process.execPath, [mainScript, 'bench', 'vcpu', '--only', 'hugetlb'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const ended = once(child, 'exit');
    const [said] = (await once(child.stderr, 'data')) as [Buffer];
    expect(said.toString()).toMatch(/^uffd bench vcpu: reserving \d+ huge pages of 2 MiB/);
    // In the middle of a run of a guest.
    await delay(1500);
    child.kill('SIGKILL');
    await ended;
    expect(await poolBecomes(before)).toBe(before);
  });

  test('SIGINT ends it in the middle, in one line', async () => {
    const child = spawn(process.execPath, [mainScript, 'bench', 'vcpu', '--only', 'missing, shmem'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const ended = once(child, 'close');
    await delay(1500);
    const asked = performance.now();
    child.kill('SIGINT');
    expect((await ended)[0]).toBe(1);
    expect(performance.now() - asked).toBeLessThan(milliseconds(3000));
    expect(stderr).toBe('uffd: stopped by SIGINT\n');
  });

  test('what is no option of it', async () => {
    const { code, stderr } = await uffd(['bench', 'vcpu', '--fault-around', '4']);
    expect(code).toBe(2);
    expect(stderr).toContain("unknown option '--fault-around'");
  });
});
