// `uffd stress --memory KIND --seconds N`: faulting threads, racing answers, and whether every page was right.
import { availableParallelism } from 'node:os';
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import { UffdError } from '../../errors.js';
import { hugePagesFor, pageSizeOf } from '../../stress/areas.js';
import { ReservedHugePages } from '../../stress/huge-pages.js';
import { type StressMemory, type StressReport, passed, stressMemories } from '../../stress/report.js';
import { stress } from '../../stress/stress.js';
import { isSupported } from '../../supported.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { byteCount, wholeNumber } from '../options.js';
import { terminalLine } from '../terminal-line.js';

interface StressCommandOptions {
  memory: StressMemory;
  seconds: number;
  size?: number;
  threads: number;
  handlers: number;
  json: boolean;
  quiet: boolean;
}

/** Bytes of an area, by the bytes of its pages. */
const DEFAULT_SIZE = { base: 20 * 2 ** 20, huge: 32 * 2 ** 20 };
const DAY_SECONDS = 86_400;

export function addStress(program: Command): void {
  program
    .command('stress')
    .description('bounce memory between two areas under faulting threads and racing handlers; every page is verified')
    .addOption(new Option('--memory <kind>', 'kind of memory').choices(stressMemories).default('anon'))
    .option('--seconds <n>', 'how long; the bounce under way is completed', wholeNumber(1, DAY_SECONDS), 5)
    .option('--size <bytes>', 'bytes of each of the two areas (default: 20M, of huge pages 32M)', byteCount)
    .option('--threads <n>', 'threads that fault', wholeNumber(1, 256), Math.max(4, availableParallelism()))
    .option('--handlers <n>', 'threads that answer', wholeNumber(1, 64), 3)
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no progress line', false)
    .addHelpText(
      'after',
      '\nExit status 0 only if no page was wrong, no answer unexpected, and nothing stood still.' +
        '\nCtrl-C ends it early, with a report.' +
        '\nhugetlb and hugetlb-private need free huge pages for both areas: as root those that lack are reserved' +
        '\nfor the run, and given back (docs/stress.md).',
    )
    .action(async (options: StressCommandOptions) => {
      const report = await run(options);
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : `${readable(report)}\n`);
      process.exitCode = passed(report) ? ExitCode.ok : ExitCode.failed;
    });
}

async function run(options: StressCommandOptions): Promise<StressReport> {
  const { supported, reason } = isSupported();
  if (!supported) throw new UffdError('ERR_UNSUPPORTED_PLATFORM', reason ?? 'there is no userfaultfd here');
  const { memory, seconds, threads, handlers } = options;
  const sizeBytes = options.size ?? (pageSizeOf(memory) > 2 ** 20 ? DEFAULT_SIZE.huge : DEFAULT_SIZE.base);
  const stop = new AbortController();
  const forget = onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  const line = terminalLine(options.quiet);
  try {
    return await withHugePages(hugePagesFor(memory, sizeBytes), () =>
      stress({
        memory,
        sizeBytes,
        seconds,
        threads,
        handlers,
        signal: stop.signal,
        onBounce: (soFar) => {
          line.show(`[${Math.min(seconds, Math.floor(soFar.seconds))}/${seconds} s] ${summary(soFar)}`);
        },
      }),
    );
  } finally {
    line.clear();
    forget();
  }
}

async function withHugePages<T>(needed: number, run: () => Promise<T>): Promise<T> {
  const reserved = await ReservedHugePages.reserve(needed, (lacking) => {
    process.stderr.write(`uffd stress: reserving ${lacking} huge pages of 2 MiB for the time of the run\n`);
  });
  try {
    return await run();
  } finally {
    await reserved[Symbol.asyncDispose]();
  }
}

function summary({ bounces, missing, minor, wp, wrongPages }: StressReport): string {
  return `${bounces.all} bounces, ${missing} missing, ${minor} minor, ${wp} wp, ${wrongPages} wrong pages`;
}

function readable(report: StressReport): string {
  const { memory, pages, pageSize, threads, handlers, bounces, already } = report;
  const table = new Table({ colAligns: ['left', 'right'], style: { head: [], border: [] } });
  table.push(
    ['bounces', bounces.all],
    ['  random, racing', `${bounces.random}, ${bounces.racing}`],
    ['  polling, blocking', `${bounces.polling}, ${bounces.blocking}`],
    ['missing faults', report.missing],
    ['minor faults', report.minor],
    ['wp faults', report.wp],
    ['EEXIST raced, provoked', `${already.raced}, ${already.provoked}`],
    ['pages changed', report.changed],
    ['pages verified after bounces', report.verified],
    ['wrong pages', report.wrongPages],
  );
  const lines = [
    `${memory}: ${pages} pages of ${pageSize} bytes (${report.modes.join(', ')}), ` +
      `${threads} threads, ${handlers} handlers, ${report.seconds.toFixed(1)} s`,
    table.toString(),
  ];
  if (report.firstWrong !== undefined) lines.push(`first wrong page: ${report.firstWrong}`);
  lines.push(...report.unexpected.map((what) => `unexpected: ${what}`));
  if (report.stalled !== undefined) lines.push(`stalled: ${report.stalled}`);
  return lines.join('\n');
}
