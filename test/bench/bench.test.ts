// `uffd bench --quick --json`: every row is there, and a number. What the numbers are is for an idle machine to say.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { BenchReport } from '../../lib/bench/report.js';
import { trials as serveTrials } from '../../lib/bench/serve/trials.js';
import { trials } from '../../lib/bench/trials.js';

const cli = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

async function uffd(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

function timesOf({ median, min, max }: { median: number; min: number; max: number }): number[] {
  return [median, min, max];
}

function positive(...values: number[]): void {
  for (const value of values) expect(value > 0 && Number.isFinite(value), `${value}`).toBe(true);
}

describe('uffd bench', () => {
  it('measures every row', { timeout: 400_000 }, async () => {
    const { code, stdout, stderr } = await uffd('bench', '--quick', '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(stdout) as BenchReport;
    const rows = trials.filter((trial) => !('control' in trial)).flatMap((trial) => trial.rows);
    expect(report.comparisons.map(({ name }) => name)).toEqual(rows.map(({ name }) => name));
    for (const { subject, reference, ratio } of report.comparisons) {
      positive(ratio, ...timesOf(subject), ...timesOf(reference));
      expect(subject.min <= subject.median && subject.median <= subject.max).toBe(true);
    }
    expect(report.limits).toHaveLength(3);
    for (const { median, min, max } of report.limits) positive(median, min, max);
    for (const { value } of report.extra) expect(Number.isFinite(value)).toBe(true);
    positive(report.noise.ratioMedian, report.machine.cpus);
    expect(report.noise.controls.length).toBeGreaterThan(0);
    expect(report).toMatchObject({ schema: 1, quick: true });
  });

  it('serve: every row, for clients in another process', { timeout: 400_000 }, async () => {
    const { code, stdout, stderr } = await uffd('bench', 'serve', '--quick', '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(stdout) as BenchReport;
    const rows = serveTrials.filter((trial) => trial.control !== true).map(({ name }) => name);
    expect(report.comparisons.map(({ name }) => name).slice(0, rows.length)).toEqual(rows);
    for (const { subject, reference, ratio } of report.comparisons) {
      positive(ratio, ...timesOf(subject), ...timesOf(reference));
    }
    for (const { reach } of report.comparisons.slice(0, rows.length)) positive(reach ?? NaN);
    for (const { value } of report.extra) positive(value);
    // Whatever the machine is busy with: this is counted, not timed.
    const fetched = report.extra.find(({ name }) => name.includes('bytes fetched / bytes touched'))!;
    expect(fetched.value).toBeLessThanOrEqual(fetched.limit!);
    // Beside a slow file, and what sharing the CPUs with it costs.
    expect(report.comparisons).toHaveLength(rows.length + (report.skipped!.length === 0 ? 2 : 0));
    expect(report).toMatchObject({ schema: 1, quick: true });
  });

  it('measures a part', { timeout: 120_000 }, async () => {
    const { code, stdout } = await uffd('bench', '--quick', '--json', '--only', 'restore, memfd$');
    expect(code).toBe(0);
    const { comparisons } = JSON.parse(stdout) as BenchReport;
    expect(comparisons.map(({ name }) => name)).toEqual(['random restore, memfd']);
  });

  it('refuses a pattern that is none', async () => {
    const { code, stderr } = await uffd('bench', '--only', '(');
    expect(code).toBe(2);
    expect(stderr).toContain('--only');
  });
});
