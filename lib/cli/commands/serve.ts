// `uffd serve FILE --socket PATH`: the fault server as a process.
import { type Command, Option } from 'commander';
import { UffdError, messageOf } from '../../errors.js';
import { FaultServer } from '../../server/fault-server.js';
import type { FailurePolicy } from '../../server/messages.js';
import { fileSource } from '../../sources/file.js';
import { HandoffListener } from '../../transports/handoff-listener.js';
import { ExitCode, onStopRequest } from '../exit.js';
import { cpuList, duration, wholeNumber } from '../options.js';
import { ServeLog, reportReady } from '../serve-log.js';

interface ServeOptions {
  socket: string;
  fill: 'auto' | 'copy' | 'continue';
  faultAround: number;
  workers: number;
  faultDeadline: number;
  onFailure: FailurePolicy;
  drainTimeout: number;
  handshakeTimeout: number;
  allowUid: number[];
  spin: number;
  cpus: number[];
  readyFd?: number;
  exitOnStdinClose: boolean;
  json: boolean;
  quiet: boolean;
}

const collectUid = (text: string, before: number[]) => [...before, wholeNumber(0, 2 ** 32 - 2)(text)];

export function addServe(program: Command): void {
  program
    .command('serve')
    .description('serve the page faults of other processes from a file')
    .argument('<file>', 'the snapshot: bytes of the memory, page by page')
    .requiredOption('--socket <path>', 'listen for clients at this path (docs/handoff-protocol.md)')
    .addOption(
      new Option('--fill <way>', 'how absent pages get their bytes; auto: the measured best for the memory kind')
        .choices(['auto', 'copy', 'continue'])
        .default('auto'),
    )
    .option('--fault-around <pages>', 'pages brought along with a fault', wholeNumber(1, 2 ** 20), 64)
    .option('--workers <n>', 'serving threads', wholeNumber(1, 64), 2)
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
    .option('--cpus <list>', 'CPUs of the serving threads, e.g. 0,1', cpuList, [])
    .option('--ready-fd <fd>', 'write a line to this descriptor when listening', wholeNumber(0, 2 ** 20))
    .option('--exit-on-stdin-close', 'end when standard input ends, as with SIGTERM', false)
    .option('--json', 'one JSON object a line on stdout', false)
    .option('--quiet', 'no log lines', false)
    .addHelpText(
      'after',
      '\nSIGTERM and SIGINT complete every client (fill, unregister, wake) and exit 0, or 1 at --drain-timeout.' +
        '\nA second signal ends at once.',
    )
    .action(async (file: string, options: ServeOptions) => {
      process.exitCode = await serve(file, options);
    });
}

async function serve(file: string, options: ServeOptions): Promise<number> {
  const log = new ServeLog(options.json, options.quiet);
  const source = fileSource(file);
  const server = await FaultServer.start({
    source,
    workers: options.workers,
    fill: options.fill,
    faultAround: options.faultAround,
    faultDeadlineMs: options.faultDeadline,
    onFailure: options.onFailure,
    spinUs: options.spin,
    cpus: options.cpus,
  });
  try {
    const listener = new HandoffListener(server, {
      path: options.socket,
      allowUids: options.allowUid,
      handshakeTimeoutMs: options.handshakeTimeout,
    });
    try {
      reportEvents(server, listener, log);
      const stopped = stopRequest(options.exitOnStdinClose, listener);
      log.say({ event: 'listening', socket: options.socket, file, sizeBytes: source.sizeBytes });
      if (source.warning !== undefined) log.say({ event: 'warning', reason: source.warning });
      if (options.readyFd !== undefined) reportReady(options.readyFd);
      await stopped;
      listener.close();
      return await drain(server, options.drainTimeout, log);
    } finally {
      listener.close();
    }
  } finally {
    await server.close();
  }
}

/** Resolves at the first request to stop; a second one ends the process. Rejects when a worker fails. */
function stopRequest(watchStdin: boolean, listener: HandoffListener): Promise<string> {
  let asked = 0;
  return new Promise((resolve) => {
    onStopRequest((why) => {
      if (asked++ === 0) resolve(why);
      else {
        listener.close();
        process.exit(ExitCode.failed);
      }
    }, watchStdin);
  });
}

async function drain(server: FaultServer, timeoutMs: number, log: ServeLog): Promise<number> {
  log.say({ event: 'draining', sessions: server.sessions.length });
  try {
    await server.drain(timeoutMs);
    log.say({ event: 'drained' });
    return ExitCode.ok;
  } catch (error) {
    if (!(error instanceof UffdError) || error.code !== 'ERR_DRAIN_TIMEOUT') throw error;
    log.say({ event: 'drain-timeout', reason: messageOf(error) });
    process.stderr.write(`uffd: ${messageOf(error)}\n`);
    return ExitCode.failed;
  }
}

function reportEvents(server: FaultServer, listener: HandoffListener, log: ServeLog): void {
  listener.on('session', (session, { pid, uid }, dialect) => {
    log.say({ event: 'session', session, pid, uid, dialect });
  });
  listener.on('refused', (reason, peer) => {
    log.say({ event: 'refused', reason, ...peer });
  });
  server.on('parked', (session, reason) => {
    log.say({ event: 'parked', session, reason });
  });
  server.on('unserved', (session, action, page, reason) => {
    log.say({ event: 'unserved', session, action, page, reason });
  });
  server.on('source-failed', (reason) => {
    log.say({ event: 'source-failed', reason });
  });
  server.on('detached', (session, why, stats) => {
    const { faults, filledPages } = stats;
    log.say({ event: 'detached', session, why, faults, filledPages, stats });
  });
  server.on('error', (error) => {
    log.say({ event: 'error', reason: error.message });
    // Its sessions have nobody who serves them: ending tells their clients, going on would not.
    process.exitCode = ExitCode.failed;
    listener.close();
    process.exit();
  });
}
