// `uffd probe` as a command: what it prints, and how it exits.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ProbeReport } from '../../dist/index.js';
import { compareReports, parseReport } from '../../dist/probe/compare.js';
import { areas } from '../../dist/probe/areas/areas.js';
import { temporaryFolder, uffd } from '../e2e/support.js';

const folder = temporaryFolder();
const ids = areas.flatMap(({ probes }) => probes.map(({ id }) => id));

async function json(...args: string[]): Promise<ProbeReport> {
  const { stdout, stderr, code } = await uffd(['probe', '--json', ...args]);
  expect([stderr, code]).toEqual(['', 0]);
  return JSON.parse(stdout) as ProbeReport;
}

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe('what it prints', () => {
  it('a summary: the kernel, each area with its counts, the verdicts', async () => {
    const { stdout, code } = await uffd(['probe']);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^Linux .*, user \\d+.*: ${ids.length} probes in \\d+ ms\n`));
    for (const { title } of areas) expect(stdout).toMatch(new RegExp(`^${title}: \\d+ \\w+`, 'm'));
    expect(stdout).toMatch(/^(yes|no) +serve faults of a process's own code$/m);
    expect(stdout).toMatch(/^no +serve faults of guest_memfd\n +\S/m);
    expect(stdout.split('\n').length).toBeLessThan(100);
  });

  it('--verbose: every probe with its evidence', async () => {
    const { stdout } = await uffd(['probe', '--verbose', '--only', 'uffd.api*']);
    expect(stdout).toMatch(
      /^ {2}yes +uffd\.api +named, features 0x[\da-f]+, ioctls 0x[\da-f]+, names .*pagefaultFlagWp/m,
    );
    expect(stdout).toMatch(/^ {2}yes +uffd\.apiTwice +EINVAL$/m);
  });

  it('--json: the schema of the documentation', async () => {
    const report = await json('--only', 'reg.anon.*,sysctl.overcommit');
    expect(Object.keys(report)).toEqual(['schema', 'kernel', 'as', 'milliseconds', 'probes', 'verdicts']);
    expect(report.schema).toBe(1);
    expect(report.probes.map(({ id }) => id)).toEqual([
      'reg.anon.missing',
      'reg.anon.wp',
      'reg.anon.minor',
      'reg.anon.rwp',
      'sysctl.overcommit',
    ]);
    for (const probe of report.probes) {
      const { id, area, description, since, result, evidence, milliseconds, ...rest } = probe;
      expect([id, area, description, since, evidence.seen].every((text) => text.length > 0)).toBe(true);
      expect(['yes', 'no', 'blocked', 'differs', 'skipped']).toContain(result);
      expect(milliseconds).toBeGreaterThanOrEqual(0);
      expect(['meaning', 'blocker', 'remedy']).toEqual(expect.arrayContaining(Object.keys(rest)));
    }
    expect(report.verdicts.map(({ use, verdict }) => [use, verdict])).toEqual([
      ['user-faults', 'unknown'],
      ['kernel-faults', 'unknown'],
      ['guest-memfd-faults', 'unknown'],
    ]);
  });

  it('--markdown: two tables, as wide in every row', async () => {
    const { stdout } = await uffd(['probe', '--markdown', '--only', 'uffd.*']);
    const rows = stdout.split('\n').filter((line) => line.startsWith('|'));
    const columns = (row: string) => row.split(/(?<!\\)\|/).length - 2;
    expect([...new Set(rows.map(columns))]).toEqual([3, 4]);
    expect(rows.filter((row) => row.startsWith('| `uffd.'))).toHaveLength(
      ids.filter((id) => id.startsWith('uffd.')).length,
    );
  });

  it('--list: every id once, without asking', async () => {
    const { stdout } = await uffd(['probe', '--list']);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.split(' ')[0]),
    ).toEqual(ids);
    const { stdout: some } = await uffd(['probe', '--list', '--only', 'kvm.open']);
    expect(some.trim().split('\n')).toHaveLength(1);
  });

  it('--explain: what it asks, needs, and what each answer means', async () => {
    const { stdout } = await uffd(['probe', '--explain', 'copy.overGuard']);
    expect(stdout).toContain('UFFDIO_COPY leaves a guard page');
    expect(stdout).toContain('needs a userfaultfd');
    expect(stdout).toMatch(/EEXIST: yes .*\n.*done: differs \(Linux 6\.13 to 7\.1\); the guard is overwritten/);
  });
});

describe('--require', () => {
  it('is 0 and silent when all are yes', async () => {
    const { code, stdout, stderr } = await uffd(['probe', '--require', 'memfd.create,memfd.seal.shrink']);
    expect([code, stdout, stderr]).toEqual([0, '', '']);
  });

  it('is 1 with a line that says which is not, and why', async () => {
    const { code, stdout, stderr } = await uffd(['probe', '--require', 'memfd.create,move.shmem', '--json']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^uffd: move\.shmem is (no|blocked) \(.+\)\n$/);
    expect((JSON.parse(stdout) as ProbeReport).probes).toHaveLength(2);
  });
});

describe('--diff', () => {
  it('says what is not as in the other report', async () => {
    const before = await json('--only', 'memfd.seal.*');
    const probes = before.probes.map((one) =>
      one.id === 'memfd.seal.grow' ? { ...one, result: 'no', evidence: { seen: 'EINVAL' } } : one,
    );
    const other = file('other.json', JSON.stringify({ ...before, kernel: { release: '5.0', machine: 'x' }, probes }));
    const { stdout, code } = await uffd(['probe', '--only', 'memfd.seal.grow,memfd.seal.exec', '--diff', other]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^5\.0 -> \d.*: 5 probes differ$/m);
    expect(stdout).toContain('memfd.seal.grow: no (EINVAL) -> yes (ok)');
    expect(stdout).toContain('memfd.seal.seal: yes (ok) -> not asked');
    expect(stdout).not.toContain('memfd.seal.exec');
  });

  it('a report is the same as itself, but for times and details', async () => {
    const report = await json('--only', 'memfd.*');
    const later = { ...report, probes: report.probes.map((one) => ({ ...one, milliseconds: 77 })) };
    expect(compareReports(report, later)).toEqual([]);
    expect(parseReport(JSON.stringify(report), 'it')).toEqual(report);
  });
});

const wrong: [name: string, args: string[], line: RegExp][] = [
  ['an unknown pattern', ['--only', 'bogus.*'], /no probe is called "bogus\.\*"/],
  ['an unknown id to explain', ['--explain', 'bogus'], /No probe is called "bogus"/],
  ['an unknown id to require', ['--require', 'memfd.create,bogus'], /No probe is called "bogus"/],
  ['two formats', ['--json', '--markdown'], /cannot be used with/],
  ['a missing report', ['--diff', join(folder, 'none')], /ENOENT/],
  ['a report that is no JSON', ['--diff', file('text', 'hello')], /is not JSON/],
  ['a report of something else', ['--diff', file('bench.json', '{"schema":7}')], /is not a report .*schema/],
  [
    'a report with a result that does not exist',
    [
      '--diff',
      file('odd.json', '{"schema":1,"kernel":{"release":"1","machine":"x"},"probes":[{"id":"a","result":"maybe"}]}'),
    ],
    /probes\.0\./,
  ],
];

describe('usage errors: one line, exit status 2', () => {
  it.each(wrong)('%s', async (_, args, line) => {
    const { code, stdout, stderr } = await uffd(['probe', ...args]);
    expect(stderr).toMatch(line);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect([code, stdout]).toEqual([2, '']);
  });
});
