// `uffd bench`: the server's figures on this machine, beside those of a plain C handler.
import type { Command } from 'commander';
import { benchmark, rowNames } from '../../bench/benchmark.js';
import { printReport, readable } from '../bench-report.js';
import { patternAmong, wholeNumber } from '../options.js';
import { addBenchServe } from './bench-serve.js';
import { addBenchVcpu } from './bench-vcpu.js';

interface BenchCommandOptions {
  quick: boolean;
  only?: RegExp;
  faultAround?: number;
  json: boolean;
  quiet: boolean;
}

export function addBench(program: Command): void {
  const bench = program.command('bench').enablePositionalOptions();
  addBenchServe(bench);
  addBenchVcpu(bench);
  bench
    .description('measure the fault server against a plain C handler, on this machine')
    .option('--quick', 'every row, smaller: within a minute', false)
    .option('--only <pattern>', 'only rows whose name matches, e.g. "restore" or "one fault"', patternAmong(rowNames))
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
      const { quick, only, faultAround } = options;
      const chosen = { quick, ...(only !== undefined && { only }), ...(faultAround !== undefined && { faultAround }) };
      await printReport(options, (running) => benchmark({ ...chosen, ...running }), readable);
    });
}
