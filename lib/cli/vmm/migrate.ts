// `uffd vmm migrate` and `uffd vmm receive`: a guest goes on in another process while its memory still comes.
import type { Command } from 'commander';
import { MemoryFile } from '../../vmm/memory-file.js';
import { connectDestination, migrateGuest, snapshotMemory } from '../../vmm/migrate.js';
import { receiveGuest } from '../../vmm/receive.js';
import { openSnapshot } from '../../vmm/snapshot.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { Serial } from './serial.js';

interface Output {
  json: boolean;
  quiet: boolean;
}

export function addMigrate(vmm: Command): void {
  vmm
    .command('migrate')
    .description('send the guest of a snapshot to a process that receives it: first its state, then its memory')
    .argument('<folder>', 'the snapshot')
    .requiredOption('--to <path>', 'where uffd vmm receive listens')
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no log lines', false)
    .action(async (folder: string, options: Output & { to: string }) => {
      const report = await stoppable(async (signal) => {
        const snapshot = await openSnapshot(folder, { signal });
        using file = new MemoryFile(snapshot);
        const to = await connectDestination(options.to);
        return await migrateGuest({ guest: snapshot.manifest, memory: snapshotMemory(file), to, signal });
      });
      const { pages, pagesSent, durationMs } = report;
      say(options, report, `${pagesSent} of ${pages} pages sent in ${durationMs.toFixed(0)} ms`);
    });
}

export function addReceive(vmm: Command): void {
  vmm
    .command('receive')
    .description('take over a guest: it goes on at once, and its memory comes on demand and behind it')
    .requiredOption('--listen <path>', 'where uffd vmm migrate connects')
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no log lines', false)
    .action(async (options: Output & { listen: string }) => {
      const serial = new Serial(options.json);
      const onListening = () => {
        if (!options.quiet) process.stderr.write(`uffd vmm: listening at ${options.listen}\n`);
      };
      const report = await stoppable((signal) =>
        receiveGuest({ listen: options.listen, onListening, onSerial: serial.write, signal }),
      );
      const { toFirstRunMs, toChecksumMs, toCompleteMs, faults } = report;
      say(
        options,
        { checksum: serial.checksum, ...report },
        `first KVM_RUN ${toFirstRunMs.toFixed(1)} ms after the source came, checksum ${toChecksumMs.toFixed(0)} ms later ` +
          `(${faults} faults), all memory there after ${toCompleteMs.toFixed(0)} ms`,
      );
    });
}

async function stoppable<Report>(work: (signal: AbortSignal) => Promise<Report>): Promise<Report> {
  const stop = new AbortController();
  const forget = onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  try {
    return await work(stop.signal);
  } finally {
    forget();
  }
}

function say({ json, quiet }: Output, report: object, text: string): void {
  if (json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else if (!quiet) process.stderr.write(`uffd vmm: ${text}\n`);
  process.exitCode = ExitCode.ok;
}
