// `uffd vmm restore`: the guest of a snapshot goes on, verifies its memory, and prints the checksum again.
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { UffdError } from '../../errors.js';
import type { GuestMemoryKind, LazyMode } from '../../vmm/memory-kind.js';
import { type RestoreReport, restoreGuest } from '../../vmm/restore.js';
import { MOST_VCPUS } from '../../vmm/run.js';
import { checkUnchanged } from '../../vmm/memory-file.js';
import { openSnapshot } from '../../vmm/snapshot.js';
import { Child } from '../children.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { wholeNumber } from '../options.js';
import { Serial } from './serial.js';

interface RestoreCommandOptions {
  eager: boolean;
  mode?: LazyMode;
  memoryKind: GuestMemoryKind;
  vcpus?: number;
  socket?: string;
  faultAround: number;
  verify: boolean;
  json: boolean;
  quiet: boolean;
}

/** What `uffd vmm restore --json` prints. */
interface Report extends RestoreReport {
  readonly checksum: string | undefined;
  readonly way: 'lazy' | 'eager';
  /** From the start of this process to the first KVM_RUN. */
  readonly processToFirstRunMs: number;
}

const START_MS = 20_000;

export function addRestore(vmm: Command): void {
  vmm
    .command('restore')
    .description('go on with the guest of a snapshot; its memory comes when it is touched, from a fault server')
    .argument('<folder>', 'the snapshot')
    .option('--lazy', 'memory when it is touched: the default', false)
    .addOption(
      new Option('--eager', 'all memory before the guest goes on')
        .default(false)
        .conflicts(['lazy', 'mode', 'socket', 'faultAround']),
    )
    .addOption(
      new Option('--mode <mode>', 'how missing pages come (default: minor where the memory has it)').choices([
        'minor',
        'missing',
      ]),
    )
    .addOption(
      new Option('--memory-kind <kind>', 'what the memory of the guest is made of')
        .choices(['memfd', 'anon', 'hugetlb', 'guest_memfd'])
        .default('memfd'),
    )
    .option(
      '--vcpus <n>',
      `processors that share the rest of the work, at most ${MOST_VCPUS} (default: as at the run)`,
      wholeNumber(1, MOST_VCPUS),
    )
    .addOption(
      new Option(
        '--socket <path>',
        'a fault server that serves the memory file already (default: one is started)',
      ).conflicts('faultAround'),
    )
    .option('--fault-around <pages>', 'pages brought along with a fault', wholeNumber(1, 2 ** 20), 64)
    .option('--verify', 'hash all of the memory file first, even one that nobody has written to', false)
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no log lines', false)
    .action(async (folder: string, options: RestoreCommandOptions, command: Command) => {
      if (options.memoryKind === 'anon' && options.mode === 'minor')
        command.error('error: --memory-kind anon has no --mode minor: no other process can write to private memory');
      const report = await restore(folder, options);
      if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
      else if (!options.quiet) process.stderr.write(`uffd vmm: ${readable(report)}\n`);
      process.exitCode = ExitCode.ok;
    });
}

async function restore(folder: string, options: RestoreCommandOptions): Promise<Report> {
  const stop = new AbortController();
  const forget = onStopRequest((why) => {
    stop.abort(new Error(`stopped by ${why}`));
  }, false);
  const snapshot = await openSnapshot(folder, { verify: options.verify, signal: stop.signal });
  await using server = options.eager ? undefined : await Server.start(snapshot.memoryPath, options, stop.signal);
  // The server has opened what was checked, and notices itself what changes from here on.
  if (server !== undefined) checkUnchanged(snapshot);
  const serial = new Serial(options.json);
  const opened = performance.now();
  const report = await restoreGuest({
    snapshot,
    ...(server !== undefined && { socket: server.socket }),
    memoryKind: options.memoryKind,
    ...(options.mode !== undefined && { mode: options.mode }),
    ...(options.vcpus !== undefined && { vcpus: options.vcpus }),
    onSerial: serial.write,
    signal: stop.signal,
  });
  forget();
  const processToFirstRunMs = opened + report.toFirstRunMs;
  return { checksum: serial.checksum, way: options.eager ? 'eager' : 'lazy', processToFirstRunMs, ...report };
}

/** `uffd serve` for the memory file, as a process of its own; or one that is there already. */
class Server implements AsyncDisposable {
  readonly socket: string;
  readonly #child: Child | undefined;

  private constructor(socket: string, child?: Child) {
    this.socket = socket;
    this.#child = child;
  }

  static async start(file: string, options: RestoreCommandOptions, signal: AbortSignal): Promise<Server> {
    if (options.socket !== undefined) return new Server(options.socket);
    // Directly in the temporary folder: if this process is killed, the server removes it, and nothing is left.
    const socket = join(tmpdir(), `uffd-vmm-${process.pid}-${Date.now().toString(36)}.sock`);
    const fill = options.mode === 'missing' || options.memoryKind === 'anon' ? 'copy' : 'continue';
    const child = new Child(
      ['serve', file, '--socket', socket, '--fill', fill, '--fault-around', `${options.faultAround}`, '--quiet'],
      signal,
    );
    if ((await child.event('listening', START_MS)) === undefined) {
      await child.end();
      signal.throwIfAborted();
      throw new UffdError(
        'ERR_SERVER_GONE',
        'the fault server did not start: see its message above, or somebody has killed it',
      );
    }
    return new Server(socket, child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child === undefined) return;
    await this.#child.end();
    // A server that was killed has left it.
    rmSync(this.socket, { force: true });
  }
}

function readable(report: Report): string {
  const { way, toFirstRunMs, processToFirstRunMs, toChecksumMs, pages, pagesServed, faults, latencyUs } = report;
  const first = `${way}: first KVM_RUN after ${toFirstRunMs.toFixed(1)} ms (${processToFirstRunMs.toFixed(0)} from the start)`;
  const served = `${pagesServed} of ${pages} pages served, ${faults} faults of ${latencyUs.toFixed(0)} us`;
  return `${first}, checksum ${toChecksumMs.toFixed(0)} ms later; ${way === 'lazy' ? served : `${pages} pages read`}`;
}
