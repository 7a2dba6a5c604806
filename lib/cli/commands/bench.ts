// `uffd bench`: the server's figures on this machine, beside those of a plain C handler.
import Table from 'cli-table3';
import type { Command } from 'commander';
import { type BenchOptions, benchmark } from '../../bench/benchmark.js';
import type { BenchReport } from '../../bench/report.js';
import { UffdError } from '../../errors.js';
import { isSupported } from '../../supported.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { pattern, wholeNumber } from '../options.js';
import { addBenchVcpu } from './bench-vcpu.js';

interface BenchCommandOptions {
  quick: boolean;
  only?: RegExp;
  faultAround?: number;
  json: boolean;
  quiet: boolean;
}

export function addBench(program: Command): void {
  const bench = program
    .command('bench')
    .description('measure the fault server against a plain C handler, on this machine')
    .option('--quick', 'every row, smaller: within a minute', false)
    .option('--only <pattern>', 'only rows whose name matches, e.g. "restore" or "one fault"', pattern)
    .option(
      '--fault-around <pages>',
      "pages brought along in the restore rows (default: the server's)",
      wholeNumber(1, 2 ** 20),
    )
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no progress line', false)
    .addHelpText(
      'after',
      '\nRatios are times of the server over times of the C handler: lower is better (docs/performance.md).' +
        '\nA full run takes about ten minutes and 3 GB of memory, and wants an idle machine.',
    )
    .action(async (options: BenchCommandOptions) => {
      const report = await measure(options);
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : `${readable(report)}\n`);
      process.exitCode = ExitCode.ok;
    });
  addBenchVcpu(bench);
}

async function measure(options: BenchCommandOptions): Promise<BenchReport> {
  const { supported, reason } = isSupported();
  if (!supported) throw new UffdError('ERR_UNSUPPORTED_PLATFORM', reason ?? 'there is no userfaultfd here');
  const stop = new AbortController();
  const forget = onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  const line = progressLine(options.quiet);
  const { quick, only, faultAround } = options;
  const given: BenchOptions = {
    quick,
    ...(only !== undefined && { only }),
    ...(faultAround !== undefined && { faultAround }),
    signal: stop.signal,
    onProgress: line.show,
  };
  try {
    return await benchmark(given);
  } finally {
    line.clear();
    forget();
  }
}

function progressLine(quiet: boolean): { show: (done: number, total: number, name: string) => void; clear(): void } {
  const noColor = process.env['NO_COLOR'];
  if (quiet || !process.stderr.isTTY || (noColor !== undefined && noColor !== '')) {
    return { show: () => undefined, clear: () => undefined };
  }
  return {
    show: (done, total, name) => {
      process.stderr.write(`\r\x1b[K[${done + 1}/${total}] ${name}`);
    },
    clear: () => {
      process.stderr.write('\r\x1b[K');
    },
  };
}

function readable(report: BenchReport): string {
  const { noise, machine } = report;
  const lines = [comparisonTable(report), figureTable(report)].map(String);
  const away = (ratio: number) => `${(ratio * 100).toFixed(1)} %`;
  lines.push(
    `C against itself: median ratio ${noise.ratioMedian.toFixed(3)}, at most ${away(noise.spread)} from 1.`,
    `${machine.cpus} CPUs (${machine.cpuModel}), Linux ${machine.kernel}, Node ${machine.node}, ` +
      `${report.seconds.toFixed(0)} s${report.quick ? ', quick' : ''}.`,
  );
  if (noise.noisy) lines.push('The machine was noisy: measure again when it is idle.');
  if (machine.cpusUsed.length < 2) lines.push('Only one CPU may be used: the rows of two CPUs are of one.');
  return lines.join('\n');
}

function comparisonTable(report: BenchReport): Table.Table {
  const table = new Table({
    head: ['', '', 'server', 'min', 'max', 'compared with', 'min', 'max', 'ratio'],
    colAligns: ['left', 'left', ...new Array<'right'>(7).fill('right')],
    style: { head: [], border: [] },
  });
  for (const { name, unit, subject, reference, ratio } of report.comparisons) {
    const cells = [subject, reference].flatMap(({ median, min, max }) => [median, min, max].map(short));
    table.push([name, unit, ...cells, ratio.toFixed(3)]);
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
function short(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
}
