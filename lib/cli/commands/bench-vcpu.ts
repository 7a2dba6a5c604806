// `uffd bench vcpu`: how many pages a second the vCPUs of a guest get, from the server and from a plain C handler.
import Table from 'cli-table3';
import type { Command } from 'commander';
import { type VcpuReport, benchVcpus, hugePagesNeeded } from '../../bench/vcpu.js';
import { ReservedHugePages } from '../../stress/huge-pages.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { pattern } from '../options.js';
import { terminalLine } from '../terminal-line.js';

interface BenchVcpuOptions {
  quick: boolean;
  only?: RegExp;
  json: boolean;
  quiet: boolean;
}

export function addBenchVcpu(bench: Command): void {
  // Options of the same names: those after `vcpu` are of this command.
  bench.enablePositionalOptions();
  bench
    .command('vcpu')
    .description('pages a second that vCPUs get by faults, from the server and from a plain C handler (KVM)')
    .option('--quick', 'every row, smaller: within half a minute', false)
    .option('--only <pattern>', 'only rows whose name matches, e.g. "minor" or "hugetlb"', pattern)
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no progress line', false)
    .addHelpText(
      'after',
      '\nRatios are times of the server over times of the C handler: lower is better (docs/performance.md).' +
        '\nThe rows of huge pages need free ones: as root those that lack are reserved for the run, and given back.',
    )
    .action(async (options: BenchVcpuOptions) => {
      const report = await run(options);
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : `${readable(report)}\n`);
      process.exitCode = ExitCode.ok;
    });
}

async function run({ quick, only, quiet }: BenchVcpuOptions): Promise<VcpuReport> {
  const stop = new AbortController();
  const forget = onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  const line = terminalLine(quiet);
  const chosen = { quick, ...(only !== undefined && { only }) };
  try {
    await using _huge = await ReservedHugePages.reserve(hugePagesNeeded(chosen), (lacking) => {
      process.stderr.write(`uffd bench vcpu: reserving ${lacking} huge pages of 2 MiB for the time of the run\n`);
    });
    return await benchVcpus({
      ...chosen,
      signal: stop.signal,
      onProgress: (done, total, name) => {
        line.show(`[${done + 1}/${total}] ${name}`);
      },
    });
  } finally {
    line.clear();
    forget();
  }
}

function readable({ comparisons, noise, machine, seconds, quick }: VcpuReport): string {
  const table = new Table({
    head: ['us per page', 'server', 'min', 'max', 'C', 'min', 'max', 'ratio', 'pages/s', 'C'],
    colAligns: ['left', ...new Array<'right'>(9).fill('right')],
    style: { head: [], border: [] },
  });
  for (const { name, subject, reference, ratio, pagesPerSecond } of comparisons) {
    const times = [subject, reference].flatMap(({ median, min, max }) => [median, min, max].map(short));
    const rates = [pagesPerSecond.subject, pagesPerSecond.reference].map(short);
    table.push([name, ...times, ratio.toFixed(3), ...rates]);
  }
  const away = `${(noise.spread * 100).toFixed(1)} %`;
  const lines = [
    table.toString(),
    `C against itself: median ratio ${noise.ratioMedian.toFixed(3)}, at most ${away} from 1.`,
    `${machine.cpus} CPUs (${machine.cpuModel}), Linux ${machine.kernel}, Node ${machine.node}, ` +
      `${seconds.toFixed(0)} s${quick ? ', quick' : ''}.`,
  ];
  if (noise.noisy) lines.push('The machine was noisy: measure again when it is idle.');
  return lines.join('\n');
}

/** Three figures are all a measurement is good for. */
function short(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
}
