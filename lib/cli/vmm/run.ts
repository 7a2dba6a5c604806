// `uffd vmm run`: a guest fills its memory, prints a checksum of it, and is snapshotted, or moves to another process.
import { type Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_STRIDE, MOST_VCPUS, type RunOptions, type RunReport, runGuest } from '../../vmm/run.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { byteCount, wholeNumber } from '../options.js';
import { Serial } from './serial.js';

const MIB = 2 ** 20;

interface RunCommandOptions {
  memory: number;
  snapshot?: string;
  to?: string;
  vcpus: number;
  stride: number;
  json: boolean;
  quiet: boolean;
}

export function addRun(vmm: Command): void {
  const run = vmm.command('run');
  run
    .description('start a guest that fills its memory and prints a checksum of it, and snapshot it, or move it')
    .addOption(
      new Option('--memory <bytes>', 'memory of the guest, 4M to 3G in steps of 2M')
        .argParser(guestMemory)
        .default(256 * MIB, '256M'),
    )
    .option('--snapshot <folder>', 'where the snapshot goes; one that is there is replaced')
    .addOption(
      new Option('--to <path>', 'no snapshot: the guest goes on where uffd vmm receive listens').conflicts('snapshot'),
    )
    .option('--vcpus <n>', `processors of the guest, at most ${MOST_VCPUS}`, wholeNumber(1, MOST_VCPUS), 1)
    .option('--stride <bytes>', 'from one word the guest writes to the next', guestStride, DEFAULT_STRIDE)
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no log lines', false)
    .action(async (options: RunCommandOptions) => {
      const stop = new AbortController();
      const forget = onStopRequest((why) => {
        stop.abort(new Error(`stopped by ${why}`));
      }, false);
      const serial = new Serial(options.json);
      const report = await runGuest({
        memoryBytes: options.memory,
        goal: goalOf(run, options),
        vcpus: options.vcpus,
        strideBytes: options.stride,
        onSerial: serial.write,
        signal: stop.signal,
      });
      forget();
      if (options.json) process.stdout.write(`${JSON.stringify(flat(report, serial.checksum))}\n`);
      else if (!options.quiet) process.stderr.write(`uffd vmm: ${readable(report, options)}\n`);
      process.exitCode = ExitCode.ok;
    });
}

function guestMemory(text: string): number {
  const bytes = byteCount(text);
  if (bytes < 4 * MIB || bytes > 3072 * MIB || bytes % (2 * MIB) !== 0)
    throw new InvalidArgumentError('Give 4M to 3G, in steps of 2M.');
  return bytes;
}

function guestStride(text: string): number {
  const bytes = wholeNumber(8, 2 ** 30)(text);
  if (bytes % 8 !== 0) throw new InvalidArgumentError('Give a multiple of 8.');
  return bytes;
}

function goalOf(run: Command, { snapshot, to }: RunCommandOptions): RunOptions['goal'] {
  if (snapshot !== undefined) return { snapshot };
  if (to !== undefined) return { to };
  return run.error("error: required option '--snapshot <folder>' or '--to <path>' not specified");
}

function flat({ end, ...report }: RunReport, checksum: string | undefined): object {
  return { checksum, ...report, ...end };
}

function readable({ memoryBytes, fillMs, end }: RunReport, { snapshot, to }: RunCommandOptions): string {
  const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const filled = `${mebibytes(memoryBytes)} filled in ${fillMs.toFixed(0)} ms`;
  if ('pagesSent' in end) {
    return `${filled}; moved to ${to ?? ''}: ${end.pagesSent} pages sent in ${end.durationMs.toFixed(0)} ms`;
  }
  const written = `${mebibytes(end.writtenBytes)} written in ${end.snapshotMs.toFixed(0)} ms`;
  return `${filled}; snapshot in ${snapshot ?? ''}: ${written}`;
}
