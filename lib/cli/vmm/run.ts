// `uffd vmm run`: a guest fills its memory, prints a checksum of it, and is snapshotted.
import type { Command } from 'commander';
import { DEFAULT_STRIDE, MOST_VCPUS, type RunReport, runGuest } from '../../vmm/run.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { byteCount, wholeNumber } from '../options.js';
import { Serial } from './serial.js';

interface RunCommandOptions {
  memory: number;
  snapshot: string;
  vcpus: number;
  stride: number;
  json: boolean;
  quiet: boolean;
}

export function addRun(vmm: Command): void {
  vmm
    .command('run')
    .description('start a guest that fills its memory and prints a checksum of it, and snapshot it')
    .option('--memory <bytes>', 'memory of the guest, 4M to 3G in steps of 2M', byteCount, 256 * 2 ** 20)
    .requiredOption('--snapshot <folder>', 'where the snapshot goes; one that is there is replaced')
    .option('--vcpus <n>', 'processors of the guest', wholeNumber(1, MOST_VCPUS), 1)
    .option('--stride <bytes>', 'from one word the guest writes to the next', wholeNumber(8, 2 ** 30), DEFAULT_STRIDE)
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
        snapshot: options.snapshot,
        vcpus: options.vcpus,
        strideBytes: options.stride,
        onSerial: serial.write,
        signal: stop.signal,
      });
      forget();
      if (options.json) process.stdout.write(`${JSON.stringify({ checksum: serial.checksum, ...report })}\n`);
      else if (!options.quiet) process.stderr.write(`uffd vmm: ${readable(report, options.snapshot)}\n`);
      process.exitCode = ExitCode.ok;
    });
}

function readable(report: RunReport, folder: string): string {
  const { memoryBytes, fillMs, snapshotMs, writtenBytes } = report;
  const [memory, written] = [memoryBytes, writtenBytes].map((bytes) => (bytes / 2 ** 20).toFixed(0));
  return (
    `${memory} MiB filled in ${fillMs.toFixed(0)} ms; snapshot in ${folder}: ` +
    `${written} MiB written in ${snapshotMs.toFixed(0)} ms`
  );
}
