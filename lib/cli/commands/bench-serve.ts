// `uffd bench serve`: `uffd serve` beside a C handler that answers page by page, for a client in another process.
import type { Command } from 'commander';
import { serveBenchmark, serveRowNames } from '../../bench/serve/serve-benchmark.js';
import type { ServeProcess } from '../../bench/serve/tested-process.js';
import { UffdError } from '../../errors.js';
import { type Running, printReport, readable } from '../bench-report.js';
import { Child } from '../children.js';
import { patternAmong } from '../options.js';

const START_MS = 120_000;

interface BenchServeOptions {
  quick: boolean;
  only?: RegExp;
  json: boolean;
  quiet: boolean;
}

export function addBenchServe(bench: Command): void {
  bench
    .command('serve')
    .description('measure `uffd serve` for clients in another process, against a C handler that answers page by page')
    .option('--quick', 'every row, smaller: within a minute', false)
    .option('--only <pattern>', 'only rows whose name matches, e.g. "clusters" or "HTTP"', patternAmong(serveRowNames))
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no progress line', false)
    .addHelpText(
      'after',
      '\nRatios are times of the server over times of the C handler: lower is better (docs/performance.md).' +
        '\nA full run takes about four minutes and 6 GB of memory, and wants an idle machine.',
    )
    .action(async (options: BenchServeOptions) => {
      const { quick, only } = options;
      const measure = (running: Running) => {
        const startServe = (args: readonly string[]) => start(args, running.signal);
        return serveBenchmark({ quick, ...(only !== undefined && { only }), startServe, ...running });
      };
      await printReport(options, measure, readable);
    });
}

async function start(args: readonly string[], signal: AbortSignal): Promise<ServeProcess> {
  const started = performance.now();
  const child = new Child(['serve', ...args], signal);
  const listening = await child.event('listening', START_MS);
  if (listening === undefined) {
    await child.end();
    throw new UffdError('ERR_SERVER_GONE', 'uffd serve did not start');
  }
  const startSeconds = (performance.now() - started) / 1000;
  return { pid: child.pid, startSeconds, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
}
