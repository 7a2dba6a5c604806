// `uffd bench vcpu`: how many pages a second the vCPUs of a guest get, from the server and from a plain C handler.
import Table from 'cli-table3';
import type { Command } from 'commander';
import { type VcpuReport, benchVcpus, hugePagesNeeded, vcpuTrials } from '../../bench/vcpu.js';
import { ReservedHugePages } from '../../stress/huge-pages.js';
import { type Running, circumstances, printReport, short } from '../bench-report.js';
import { patternAmong } from '../options.js';

interface BenchVcpuOptions {
  quick: boolean;
  only?: RegExp;
  json: boolean;
  quiet: boolean;
}

export function addBenchVcpu(bench: Command): void {
  bench
    .command('vcpu')
    .description('pages a second that vCPUs get by faults, from the server and from a plain C handler (KVM)')
    .option('--quick', 'every row, smaller: within half a minute', false)
    .option(
      '--only <pattern>',
      'only rows whose name matches, e.g. "minor" or "hugetlb"',
      patternAmong(vcpuTrials.map(({ name }) => name)),
    )
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no progress line', false)
    .addHelpText(
      'after',
      '\nRatios are times of the server over times of the C handler: lower is better (docs/performance.md).' +
        '\nThe rows of huge pages need free ones: as root those that lack are reserved for the run, and given back.',
    )
    .action(async (options: BenchVcpuOptions) => {
      const { quick, only } = options;
      const chosen = { quick, ...(only !== undefined && { only }) };
      const measure = async (running: Running) => {
        const huge = await ReservedHugePages.reserve(hugePagesNeeded(chosen), (lacking) => {
          process.stderr.write(`uffd bench vcpu: reserving ${lacking} huge pages of 2 MiB for the time of the run\n`);
        });
        try {
          return await benchVcpus({ ...chosen, ...running });
        } finally {
          await huge[Symbol.asyncDispose]();
        }
      };
      await printReport(options, measure, readable);
    });
}

function readable(report: VcpuReport): string {
  const table = new Table({
    head: ['us per page', 'server', 'min', 'max', 'C', 'min', 'max', 'ratio', 'pages/s', 'C'],
    colAligns: ['left', ...new Array<'right'>(9).fill('right')],
    style: { head: [], border: [] },
  });
  for (const { name, subject, reference, ratio, pagesPerSecond } of report.comparisons) {
    const times = [subject, reference].flatMap(({ median, min, max }) => [median, min, max].map(short));
    const rates = [pagesPerSecond.subject, pagesPerSecond.reference].map(short);
    table.push([name, ...times, ratio.toFixed(3), ...rates]);
  }
  return [table.toString(), ...circumstances(report)].join('\n');
}
