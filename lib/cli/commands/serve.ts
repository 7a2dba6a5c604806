// `uffd serve FILE --socket PATH`, `uffd serve --socket PATH=FILE ...`: the fault server as a process.
import { type Command, Option } from 'commander';
import { pageSize } from '../../memory/page-size.js';
import type { FaultServerOptions } from '../../server/fault-server.js';
import type { SourceSpec } from '../../server/page-source.js';
import { type Backing, fillBacking } from '../../sources/backing.js';
import type { SnapshotDigest } from '../../sources/digest.js';
import { fileSource } from '../../sources/file.js';
import { httpSource } from '../../sources/http.js';
import { isUrl } from '../../sources/url.js';
import { objectSource } from '../../sources/user.js';
import { ExitCode, endInTime, onStopRequest } from '../exit.js';
import { address, cpuList, dialectChoice, duration, wholeNumber } from '../options.js';
import { type Progress, progressBar } from '../progress.js';
import { type Pids, reportListener, reportServer } from '../serve-events.js';
import { ServeLog, checkReady, reportReady } from '../serve-log.js';
import {
  type DialectChoice,
  type Served,
  type ServingOptions,
  type Snapshot,
  Serving,
  snapshotsOf,
} from '../serving.js';
import { showStatus } from '../status.js';
import { Metrics, TraceWriter } from '../watching.js';
import { RecordWriter, type WorkingSetOptions, prepareWorkingSets, warnOfPageSize } from '../working-set.js';

interface ServeOptions extends ServingOptions, WorkingSetOptions {
  socket: string[];
  drainTimeout: number;
  status: boolean;
  readyFd?: number;
  exitOnStdinClose: boolean;
  json: boolean;
  quiet: boolean;
}

const collect = (text: string, before: string[] = []) => [...before, text];
const collectDialect = (text: string, before: DialectChoice[]) => [...before, dialectChoice(text)];
const collectUid = (text: string, before: number[]) => [...before, wholeNumber(0, 2 ** 32 - 2)(text)];

function addAheadAndWatching(command: Command): Command {
  return command
    .option('--record <file>', 'write down which pages are asked for, beside those in the file already')
    .option('--replay <file>', 'bring the pages of such a file before they are asked for')
    .option('--background-fill', 'bring everything in the end, behind what is asked for', false)
    .option('--metrics <[host:]port>', 'answer Prometheus at http://HOST:PORT/metrics (127.0.0.1)', address)
    .option('--trace <file>', 'write every fault to this file, one JSON object a line')
    .option('--status', 'ask the server that listens at --socket how it is, and end', false);
}

function addSockets(command: Command): Command {
  return command
    .requiredOption(
      '--socket <path>',
      'listen for clients at this path; PATH=FILE instead of a <file> (repeatable)',
      collect,
    )
    .option(
      '--dialect <[path=]dialect>',
      'clones: clients share the clean pages of the snapshot, which is held in memory; of one socket, or of all',
      collectDialect,
      [],
    );
}

export function addServe(program: Command): void {
  const command = program.command('serve');
  command
    .description('serve the page faults of other processes from a file')
    .argument('[file]', 'the snapshot, a file or an http(s) URL: bytes of the memory, page by page');
  addAheadAndWatching(addSockets(command))
    .addOption(
      new Option('--fill <way>', 'how absent pages get their bytes; auto: the measured best for the memory kind')
        .choices(['auto', 'copy', 'continue'])
        .default('auto'),
    )
    .addOption(
      new Option('--fault-around <pages>', 'pages brought along with a fault; with --record 1, which records exactly')
        .argParser(wholeNumber(1, 2 ** 20))
        .default(64),
    )
    .option('--workers <n>', 'serving threads of each snapshot', wholeNumber(1, 64), 2)
    .addOption(
      new Option('--fault-deadline <time>', 'how long a fault may wait before --on-failure acts')
        .argParser(duration)
        .default(10_000, '10s'),
    )
    .addOption(
      new Option('--on-failure <policy>', 'what happens to a fault that cannot be answered')
        .choices(['poison', 'kill', 'stall'])
        .default('poison'),
    )
    .addOption(
      new Option('--drain-timeout <time>', 'how long completing the clients may take at the end')
        .argParser(duration)
        .default(30_000, '30s'),
    )
    .addOption(
      new Option('--handshake-timeout <time>', 'how long a client may take to hand over')
        .argParser(duration)
        .default(10_000, '10s'),
    )
    .option('--allow-uid <uid>', 'let this user connect, beside root and our own (repeatable)', collectUid, [])
    .option('--spin <us>', 'poll so many microseconds before sleeping', wholeNumber(0, 1_000_000), 0)
    .option('--cpus <list>', 'CPUs of the serving threads, e.g. 0,1 or 0-3', cpuList, [])
    .option('--ready-fd <fd>', 'write a line to this descriptor when listening', wholeNumber(0, 2 ** 20))
    .option('--exit-on-stdin-close', 'end when standard input ends, as with SIGTERM', false)
    .option('--json', 'one JSON object a line on stdout', false)
    .option('--quiet', 'no log lines', false)
    .addHelpText(
      'after',
      '\nSIGTERM and SIGINT complete every client (fill, unregister, wake) and exit 0, or 1 at --drain-timeout.' +
        '\nA second signal ends at once. A time is 500ms, 10s or 2m; a number alone is seconds.' +
        '\n\nThe line that says it listens goes to stdout, the log to stderr; with --json everything goes to stdout.',
    )
    .action(async (file: string | undefined, options: ServeOptions, command: Command) => {
      // A page that came along would be recorded too, and brought to everybody ever after.
      const exact = options.record !== undefined && command.getOptionValueSource('faultAround') === 'default';
      if (options.status) process.exitCode = await showStatus(options);
      else await serve(checkedSnapshots(file, options, command), exact ? { ...options, faultAround: 1 } : options);
    });
}

/** What is wrong with options that are right by themselves ends the command as wrong usage. */
function checkedSnapshots(file: string | undefined, options: ServeOptions, command: Command): Snapshot[] {
  const snapshots = snapshotsOf(file, options.socket, options.dialect, (problem) => command.error(`error: ${problem}`));
  const clones = snapshots.find((one) => one.clones);
  if (clones !== undefined && isUrl(clones.path)) command.error('error: --dialect clones is for files, not for URLs');
  if ((options.record ?? options.replay) === undefined) return snapshots;
  if (clones !== undefined) command.error('error: --record and --replay bring nothing to clones: all is in memory');
  if (snapshots.length > 1) command.error('error: --record and --replay are of one snapshot: serve each by a process');
  if (isUrl(snapshots[0]!.path)) command.error('error: --record and --replay are for files, not for URLs');
  return snapshots;
}

async function serve(snapshots: readonly Snapshot[], options: ServeOptions): Promise<void> {
  const log = new ServeLog(options.json, options.quiet);
  const serving = new Serving();
  const closing: (() => void | Promise<void>)[] = [];
  const pids: Pids = new Map();
  const { readyFd } = options;
  if (readyFd !== undefined) checkReady(readyFd);
  let status: number = ExitCode.failed;
  try {
    const places = [];
    for (const { path, sockets, clones } of snapshots) {
      const sets = await workingSets(path, options, log);
      const served = clones
        ? await startClones(serving, path, options, log)
        : await serving.start(path, await sourceOf(path), options, sets.options);
      const { replay } = sets.options;
      if (options.record !== undefined && sets.snapshot !== undefined) {
        const writer = new RecordWriter(served.server, options.record, sets.snapshot, log);
        closing.push(() => {
          writer.close();
        });
      }
      reportServer(served.server, log, pids, () => {
        serving.stopListening();
      });
      places.push(...sockets.map((socket) => ({ served, socket, replay })));
    }
    const metrics = await watch(serving, options, log, closing);
    // Nobody can come before all is ready, nor before a signal means to complete them.
    const stopped = stopRequest(options.exitOnStdinClose, serving);
    for (const { served, socket, replay } of places) {
      const listener = serving.listen(served, socket, options);
      reportListener(listener, log, pids);
      if (replay !== undefined || options.record !== undefined) {
        warnOfPageSize(listener, log, '--replay', () => replay);
        warnOfPageSize(listener, log, '--record', () => served.server.workingSet());
      }
      metrics?.watch(served.server, listener);
    }
    for (const { listener, file, source } of serving.all()) {
      log.say({ event: 'listening', socket: listener.path, file, sizeBytes: source.sizeBytes });
    }
    for (const { source } of serving.served) {
      if (source.warning !== undefined) log.say({ event: 'warning', reason: source.warning });
    }
    if (readyFd !== undefined) reportReady(readyFd);
    await stopped;
    serving.stopListening();
    status = await drain(serving, options.drainTimeout, log);
  } finally {
    endInTime(status);
    try {
      for (const close of closing) await close();
    } finally {
      await serving.close();
    }
  }
}

/** The memory of clones is complete before anybody can come: what was missing in it would read as zeroes. */
async function startClones(serving: Serving, path: string, options: ServeOptions, log: ServeLog): Promise<Served> {
  const started = performance.now();
  let bar: Progress | undefined;
  let backing: Backing;
  try {
    backing = await fillBacking(path, (filled, of) => {
      bar ??= progressBar('filling', of / pageSize(), options.quiet);
      bar.update(filled / pageSize());
    });
  } finally {
    bar?.stop();
  }
  const { sizeBytes, filledBytes } = backing;
  const seconds = Number(((performance.now() - started) / 1000).toFixed(3));
  log.say({ event: 'backing', file: path, sizeBytes, filledBytes, seconds });
  // Never asked for anything: every page is there.
  return serving.start(path, objectSource({}, { sizeBytes }), options, {}, backing);
}

async function watch(
  serving: Serving,
  options: ServeOptions,
  log: ServeLog,
  closing: (() => void | Promise<void>)[],
): Promise<Metrics | undefined> {
  const metrics = options.metrics && (await Metrics.start(serving.served, options.metrics));
  if (metrics !== undefined) {
    closing.push(() => metrics.close());
    log.say({ event: 'metrics', url: metrics.url });
  }
  if (options.trace !== undefined) {
    const servers = serving.served.map(({ server }) => server);
    const trace = await TraceWriter.start(servers, options.trace, log);
    closing.push(() => trace.close());
  }
  return metrics;
}

async function workingSets(
  file: string,
  options: ServeOptions,
  log: ServeLog,
): Promise<{ options: Pick<FaultServerOptions, 'record' | 'replay'>; snapshot: SnapshotDigest | undefined }> {
  const { record, replay } = options;
  if (record === undefined && replay === undefined) return { options: {}, snapshot: undefined };
  const prepared = await prepareWorkingSets(file, { record, replay }, log);
  const { earlier } = prepared;
  return {
    snapshot: prepared.snapshot,
    options: {
      ...(record !== undefined && { record: earlier === undefined ? true : { earlier } }),
      ...(prepared.replay !== undefined && { replay: prepared.replay }),
    },
  };
}

function sourceOf(path: string): SourceSpec | Promise<SourceSpec> {
  return isUrl(path) ? httpSource(path) : fileSource(path);
}

/** Resolves at the first request to stop; a second one ends the process. */
function stopRequest(watchStdin: boolean, serving: Serving): Promise<string> {
  let asked = 0;
  return new Promise((resolve) => {
    onStopRequest((why) => {
      if (asked++ === 0) resolve(why);
      else {
        serving.stopListening();
        endInTime(ExitCode.failed);
        process.exit();
      }
    }, watchStdin);
  });
}

async function drain(serving: Serving, timeoutMs: number, log: ServeLog): Promise<number> {
  log.say({ event: 'draining', sessions: serving.sessions });
  const failures = await serving.drain(timeoutMs);
  if (failures.length === 0) {
    log.say({ event: 'drained' });
    return ExitCode.ok;
  }
  for (const reason of failures) {
    log.say({ event: 'drain-timeout', reason });
    process.stderr.write(`uffd: ${reason}\n`);
  }
  return ExitCode.failed;
}
