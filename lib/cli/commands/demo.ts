// `uffd demo [FILE]`: a fault server and a client at work, and whether every byte was right.
import { createHash } from 'node:crypto';
import { createReadStream, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import { UffdError } from '../../errors.js';
import { fileSource } from '../../sources/file.js';
import { Child } from '../children.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { wholeNumber } from '../options.js';
import type { TouchReport } from './touch.js';

interface DemoOptions {
  order: 'sequential' | 'random';
  threads: number;
  faultAround: number;
  fill: string;
  userModeOnly: boolean;
  json: boolean;
  quiet: boolean;
}

/** What `uffd demo --json` prints. */
interface DemoReport extends Omit<TouchReport, 'sha256'> {
  readonly ok: boolean;
  readonly file: string;
  /** Messages the server read. */
  readonly faults: number;
  readonly sha256: { readonly expected: string; readonly actual: string };
}

const START_MS = 20_000;
const REPORT_MS = 5000;

export function addDemo(program: Command): void {
  program
    .command('demo')
    .description('serve a file to a second process, page fault by page fault, and check every byte')
    .argument('[file]', 'what to serve (default: the running node binary)')
    .addOption(
      new Option('--order <order>', 'order of the touches').choices(['sequential', 'random']).default('sequential'),
    )
    .option('--threads <n>', 'threads that touch', wholeNumber(1, 1024), 1)
    .option(
      '--fault-around <pages>',
      'pages brought along with a fault; 1 shows every fault',
      wholeNumber(1, 2 ** 20),
      1,
    )
    .addOption(
      new Option('--fill <way>', 'how absent pages get their bytes')
        .choices(['auto', 'copy', 'continue'])
        .default('continue'),
    )
    .option('--user-mode-only', 'run without permission for userfaultfd (uffd touch --user-mode-only)', false)
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no progress bar', false)
    .action(async (file: string | undefined, options: DemoOptions) => {
      const report = await demo(file ?? process.execPath, options);
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : `${readable(report)}\n`);
      process.exitCode = report.ok ? ExitCode.ok : ExitCode.failed;
    });
}

async function demo(file: string, options: DemoOptions): Promise<DemoReport> {
  // Directly in the temporary folder: whichever of this process and the server is killed, the other one removes it.
  const socket = join(tmpdir(), `uffd-demo-${process.pid}-${Date.now().toString(36)}.sock`);
  try {
    return await shown(file, socket, options);
  } finally {
    rmSync(socket, { force: true });
  }
}

async function shown(file: string, socket: string, options: DemoOptions): Promise<DemoReport> {
  const size = sizeOf(file);
  const stop = new AbortController();
  onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  const expected = await hashOf(file, stop.signal);
  const { order, threads, faultAround, fill, quiet } = options;
  const quietly = quiet || options.json ? ['--quiet'] : [];
  const serving = ['--socket', socket, '--fill', fill, '--fault-around', `${faultAround}`, ...quietly];
  await using server = new Child(['serve', file, ...serving], stop.signal);
  const listening = await server.event('listening', START_MS);
  stop.signal.throwIfAborted();
  if (listening === undefined) {
    throw new UffdError('ERR_SERVER_GONE', 'the fault server did not start; what it said is above');
  }
  const touching = ['--socket', socket, '--size', `${size}`, '--order', order, '--threads', `${threads}`, ...quietly];
  if (options.userModeOnly) touching.push('--user-mode-only');
  await using client = new Child(['touch', ...touching], stop.signal);
  const code = await client.exited();
  stop.signal.throwIfAborted();
  const touched = client.printed[0] as unknown as TouchReport | undefined;
  if (code !== 0 || touched === undefined) {
    throw new UffdError('ERR_SERVER_GONE', 'the client did not finish; what was said is above');
  }
  const detached = await server.event('detached', REPORT_MS);
  const { sha256: actual, ...rest } = touched;
  if (detached === undefined) {
    throw new UffdError('ERR_SERVER_GONE', 'the fault server did not report the end of the session');
  }
  const faults = Number(detached['faults']);
  return { ok: actual === expected && faults > 0, file, ...rest, faults, sha256: { expected, actual } };
}

/** Bytes of the file, if it can be served at all. */
function sizeOf(file: string): number {
  const source = fileSource(file);
  source.close?.();
  return source.sizeBytes;
}

async function hashOf(file: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20, signal })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function readable(report: DemoReport): string {
  const table = new Table({ style: { head: [], border: [] } });
  const { latencyUs, seconds, sha256 } = report;
  table.push(
    ['file', report.file],
    ['pages', report.pages],
    ['faults (messages read)', report.faults],
    ['touches that faulted', report.faultsSeen],
    ['faults/s', Math.round(report.faults / seconds)],
    ['MB/s', (report.bytesPerSecond / 1e6).toFixed(1)],
    [
      'latency p50 / p99 / p99.9',
      `${[latencyUs.p50, latencyUs.p99, latencyUs.p999].map((us) => us.toFixed(1)).join(' / ')} us`,
    ],
    [
      'sha256',
      `${sha256.actual.slice(0, 16)}… ${sha256.actual === sha256.expected ? 'right' : `WRONG, expected ${sha256.expected}`}`,
    ],
  );
  return table.toString();
}
