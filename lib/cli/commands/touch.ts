// `uffd touch --socket PATH --size BYTES`: a client that has memory served and touches all of it.
import { createHash } from 'node:crypto';
import { type Command, Option } from 'commander';
import { UffdError } from '../../errors.js';
import { GuestMemfd } from '../../kvm/guest-memfd.js';
import { Kvm } from '../../kvm/kvm.js';
import { Mapping } from '../../memory/mapping.js';
import { Memfd } from '../../memory/memfd.js';
import { roundUpToPages } from '../../memory/page-size.js';
import { handOff } from '../../transports/hand-off.js';
import { Userfaultfd } from '../../userfaultfd/userfaultfd.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { byteCount, wholeNumber } from '../options.js';
import { progressBar } from '../progress.js';
import { percentileUs, touchOrder, touchPages } from '../../bench/touching.js';

interface TouchCommandOptions {
  socket: string;
  size: number;
  memoryKind: 'memfd' | 'guest_memfd';
  order: 'sequential' | 'random';
  threads: number;
  userModeOnly: boolean;
  exitOnStdinClose: boolean;
  json: boolean;
  quiet: boolean;
}

/** What `uffd touch --json` prints. */
export interface TouchReport {
  readonly pages: number;
  /** Touches that faulted. */
  readonly faultsSeen: number;
  /** From the handoff to the last touch. */
  readonly seconds: number;
  readonly bytesPerSecond: number;
  readonly latencyUs: { readonly p50: number; readonly p99: number; readonly p999: number };
  readonly sha256: string;
}

const HASH_CHUNK_BYTES = 2 ** 20;

export function addTouch(program: Command): void {
  program
    .command('touch')
    .description('have memory served by a fault server, touch every page of it, and hash it')
    .requiredOption('--socket <path>', 'where the fault server listens')
    .requiredOption('--size <bytes>', 'bytes of the snapshot, e.g. 4097, 100M, 1G', byteCount)
    .addOption(
      new Option('--memory-kind <kind>', 'what the memory is made of; guest_memfd needs KVM and a kernel that can')
        .choices(['memfd', 'guest_memfd'])
        .default('memfd'),
    )
    .addOption(
      new Option('--order <order>', 'order of the touches').choices(['sequential', 'random']).default('sequential'),
    )
    .option('--threads <n>', 'threads that touch', wholeNumber(1, 1024), 1)
    .option('--user-mode-only', 'needs no permission; kernel code that touches the memory fails (EFAULT)', false)
    .option('--exit-on-stdin-close', 'end when standard input ends', false)
    .option('--json', 'one JSON object on stdout', false)
    .option('--quiet', 'no progress bar', false)
    .action(async (options: TouchCommandOptions) => {
      const stop = new AbortController();
      onStopRequest((why) => {
        stop.abort(new Error(`stopped by ${why}`));
      }, options.exitOnStdinClose);
      const report = await touch(options, stop);
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : `${readable(report)}\n`);
      process.exitCode = ExitCode.ok;
    });
}

async function touch(options: TouchCommandOptions, stop: AbortController): Promise<TouchReport> {
  const { signal } = stop;
  using file = await memoryFile(options);
  using mapping = Mapping.map(file);
  // Open to the end: were it closed, pages that nobody has filled would read as zeroes.
  using userfaultfd = Userfaultfd.open({ userModeOnly: options.userModeOnly });
  if (file instanceof GuestMemfd) file.register(userfaultfd, mapping, ['missing', 'minor']);
  else userfaultfd.register(mapping, ['missing', 'minor']);
  const pages = mapping.lengthBytes / mapping.pageSize;
  const order = touchOrder(pages, options.order);
  const started = performance.now();
  using handoff = await handOff(options.socket, {
    userfaultfd,
    memfd: file,
    mappings: [{ mapping, offset: 0 }],
    signal,
  });
  handoff.done.catch((error: unknown) => {
    stop.abort(error);
  });
  const bar = progressBar('touching', pages, options.quiet);
  try {
    const onProgress = (touched: number) => {
      bar.update(touched);
    };
    const result = await touchPages(mapping, { order, threads: options.threads, signal, onProgress });
    const seconds = (performance.now() - started) / 1000;
    const sha256 = await hashThrough(mapping, options.size, signal);
    const { latenciesNs } = result;
    return {
      pages,
      faultsSeen: result.faulted,
      seconds,
      bytesPerSecond: options.size / seconds,
      latencyUs: {
        p50: percentileUs(latenciesNs, 50),
        p99: percentileUs(latenciesNs, 99),
        p999: percentileUs(latenciesNs, 99.9),
      },
      sha256,
    };
  } finally {
    bar.stop();
  }
}

async function memoryFile({ memoryKind, size }: TouchCommandOptions): Promise<Memfd | GuestMemfd> {
  if (memoryKind === 'memfd') return Memfd.create({ sizeBytes: size, name: 'uffd-touch' });
  using kvm = Kvm.open();
  // Of a VM that nothing runs in: the memory keeps it alive.
  await using vm = kvm.createVm();
  return vm.createGuestMemfd({ sizeBytes: roundUpToPages(size), flags: ['mmap', 'initShared'] });
}

/** SHA-256 of exactly `sizeBytes` bytes, read through the mapping; what follows in the last page must be zero. */
async function hashThrough(mapping: Mapping, sizeBytes: number, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < sizeBytes; at += HASH_CHUNK_BYTES) {
    hash.update(await mapping.read(at, Math.min(HASH_CHUNK_BYTES, sizeBytes - at), { signal }));
  }
  const rest = await mapping.read(sizeBytes, mapping.lengthBytes - sizeBytes, { signal });
  if (rest.some((byte) => byte !== 0)) {
    throw new UffdError('ERR_SOURCE_CHANGED', 'bytes after the end of the snapshot, in its last page, are not zero');
  }
  return hash.digest('hex');
}

function readable(report: TouchReport): string {
  const { pages, faultsSeen, seconds, latencyUs } = report;
  return (
    `${pages} pages touched in ${seconds.toFixed(2)} s, ${faultsSeen} faulted ` +
    `(p50 ${latencyUs.p50.toFixed(1)} us, p99 ${latencyUs.p99.toFixed(1)} us)\nsha256 ${report.sha256}`
  );
}
