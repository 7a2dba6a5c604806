// What the commands of `uffd bench` have in common: a run that can be stopped, and its report as JSON or as tables.
import { setMaxListeners } from 'node:events';
import Table from 'cli-table3';
import type { BenchReport } from '../bench/report.js';
import { UffdError } from '../errors.js';
import { isSupported } from '../supported.js';
import { ExitCode, onStopRequest } from './exit.js';
import { terminalLine } from './terminal-line.js';

/** What a run is given of its command. */
export interface Running {
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number, name: string) => void;
}

/** Measures, and prints what came of it. SIGINT and SIGTERM end the run. */
export async function printReport<Report>(
  options: { json: boolean; quiet: boolean },
  measure: (running: Running) => Promise<Report>,
  readable: (report: Report) => string,
): Promise<void> {
  const { supported, reason } = isSupported();
  if (!supported) throw new UffdError('ERR_UNSUPPORTED_PLATFORM', reason ?? 'there is no userfaultfd here');
  const stop = new AbortController();
  // One for each process of a run.
  setMaxListeners(0, stop.signal);
  const forget = onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  const line = terminalLine(options.quiet);
  const onProgress = (done: number, total: number, name: string) => {
    line.show(`[${done + 1}/${total}] ${name}`);
  };
  try {
    const report = await measure({ signal: stop.signal, onProgress });
    line.clear();
    process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : `${readable(report)}\n`);
    process.exitCode = ExitCode.ok;
  } finally {
    line.clear();
    forget();
  }
}

export function readable(report: BenchReport): string {
  const lines = [comparisonTable(report), figureTable(report)].map(String);
  for (const { name, reason } of report.skipped ?? []) lines.push(`Not measured: ${name} (${reason}).`);
  lines.push(...circumstances(report));
  return lines.join('\n');
}

/** How far to trust the figures of a run, and where they are from. */
export function circumstances(report: Pick<BenchReport, 'noise' | 'machine' | 'seconds' | 'quick'>): string[] {
  const { noise, machine } = report;
  const away = `${(noise.spread * 100).toFixed(1)} %`;
  const lines = [
    `C against itself: median ratio ${noise.ratioMedian.toFixed(3)}, at most ${away} from 1.`,
    `${machine.cpus} CPUs (${machine.cpuModel}), Linux ${machine.kernel}, Node ${machine.node}, ` +
      `${report.seconds.toFixed(0)} s${report.quick ? ', quick' : ''}.`,
  ];
  if (noise.noisy) lines.push('The machine was noisy: measure again when it is idle.');
  if (machine.cpusUsed.length < 2) lines.push('Only one CPU may be used: the rows of two CPUs are of one.');
  return lines;
}

function comparisonTable(report: BenchReport): Table.Table {
  const reach = report.comparisons.some((row) => row.reach !== undefined);
  const table = new Table({
    head: ['', '', 'server', 'min', 'max', 'compared with', 'min', 'max', 'ratio', ...(reach ? ['to reach'] : [])],
    colAligns: ['left', 'left', ...new Array<'right'>(8).fill('right')],
    style: { head: [], border: [] },
  });
  for (const { name, unit, subject, reference, ratio, ...row } of report.comparisons) {
    const cells = [subject, reference].flatMap(({ median, min, max }) => [median, min, max].map(short));
    table.push([name, unit, ...cells, ratio.toFixed(3), ...(reach ? [row.reach?.toFixed(3) ?? ''] : [])]);
  }
  return table;
}

function figureTable(report: BenchReport): Table.Table {
  const table = new Table({
    head: ['limits and other figures', '', '', 'min', 'max', 'to stay below'],
    colAligns: ['left', 'left', ...new Array<'right'>(4).fill('right')],
    style: { head: [], border: [] },
  });
  for (const { name, unit, median, min, max } of report.limits)
    table.push([name, unit, ...[median, min, max].map(short), '']);
  for (const { name, unit, value, limit } of report.extra) {
    table.push([name, unit, short(value), '', '', limit === undefined ? '' : short(limit)]);
  }
  return table;
}

/** Three figures are all a measurement is good for. */
export function short(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
}
