// What one `uffd serve` process serves: a fault server for each snapshot, a listener for each socket.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { UffdError, messageOf } from '../errors.js';
import { FaultServer, type FaultServerOptions } from '../server/fault-server.js';
import type { Address } from '../observe/endpoint.js';
import type { FailurePolicy } from '../server/messages.js';
import type { SourceSpec } from '../server/page-source.js';
import type { Backing } from '../sources/backing.js';
import { displayUrl, isUrl } from '../sources/url.js';
import { HandoffListener } from '../transports/handoff-listener.js';

export interface ServingOptions {
  fill: 'auto' | 'copy' | 'continue';
  faultAround: number;
  workers: number;
  faultDeadline: number;
  onFailure: FailurePolicy;
  handshakeTimeout: number;
  allowUid: number[];
  spin: number;
  cpus: number[];
  backgroundFill: boolean;
  dialect: DialectChoice[];
  metrics?: Address;
  trace?: string;
}

/** Of one socket, or of all that are not named. */
export interface DialectChoice {
  readonly socket?: string;
  readonly dialect: 'auto' | 'clones';
}

/** A snapshot and the sockets its clients come to. */
export interface Snapshot {
  readonly path: string;
  readonly sockets: readonly string[];
  /** Its clients are clones that share its clean pages. */
  readonly clones: boolean;
}

/**
 * From `FILE --socket S ...` or `--socket S=FILE ...`, by snapshot.
 * @param dialects of the sockets; the clones of a snapshot and its other clients are served from two of them
 * @param wrong called with what is wrong with them
 */
export function snapshotsOf(
  file: string | undefined,
  sockets: readonly string[],
  dialects: readonly DialectChoice[],
  wrong: (problem: string) => never,
): Snapshot[] {
  const bySnapshot = new Map<string, string[]>();
  const pair = file === undefined ? undefined : sockets.find(namesSnapshot);
  if (pair !== undefined) {
    wrong(`--socket ${pair} has a snapshot of its own: give the other one as --socket PATH=${file!} too`);
  }
  if (file !== undefined) bySnapshot.set(file, [...sockets]);
  for (const pair of file === undefined ? sockets : []) {
    const at = pair.indexOf('=');
    if (at <= 0 || at === pair.length - 1) {
      wrong(`missing required argument 'file': give it, or --socket PATH=FILE instead of --socket ${pair}`);
    }
    const path = pair.slice(at + 1);
    bySnapshot.set(path, [...(bySnapshot.get(path) ?? []), pair.slice(0, at)]);
  }
  const all = Array.from(bySnapshot.values()).flat();
  const twice = all.find((socket, i) => all.findIndex((other) => isSame(socket, other)) < i);
  if (twice !== undefined) wrong(`--socket ${twice} is given twice: two snapshots need two sockets`);
  const isClone = (socket: string) => dialectOf(socket, dialects) === 'clones';
  for (const { socket } of dialects) {
    if (socket === undefined || all.some((other) => isSame(socket, other))) continue;
    wrong(`--dialect ${socket}=...: there is no --socket ${socket}`);
  }
  return Array.from(bySnapshot)
    .flatMap(([path, paths]) => [
      { path, clones: false, sockets: paths.filter((socket) => !isClone(socket)) },
      { path, clones: true, sockets: paths.filter(isClone) },
    ])
    .filter((snapshot) => snapshot.sockets.length > 0);
}

function dialectOf(socket: string, dialects: readonly DialectChoice[]): DialectChoice['dialect'] {
  const named = dialects.findLast((choice) => choice.socket !== undefined && isSame(choice.socket, socket));
  return (named ?? dialects.findLast((choice) => choice.socket === undefined))?.dialect ?? 'auto';
}

/** A path may have a = in it too. */
function namesSnapshot(socket: string): boolean {
  const at = socket.indexOf('=');
  const snapshot = socket.slice(at + 1);
  return at > 0 && (isUrl(snapshot) || existsSync(snapshot));
}

/** However they are written. */
function isSame(path: string, other: string): boolean {
  return resolve(path) === resolve(other);
}

export interface Served {
  /** As it is told: of a URL without what may be secret. */
  readonly file: string;
  readonly source: SourceSpec;
  readonly server: FaultServer;
  readonly listeners: HandoffListener[];
  /** Of a snapshot whose clients are clones. */
  readonly backing?: Backing;
}

export class Serving {
  readonly served: Served[] = [];
  readonly #numbers = { next: 1 };

  /** @param more what `ServingOptions` have no say in */
  async start(
    file: string,
    source: SourceSpec,
    options: ServingOptions,
    more: Pick<FaultServerOptions, 'record' | 'replay'>,
    backing?: Backing,
  ): Promise<Served> {
    const server = await FaultServer.start({
      source,
      workers: options.workers,
      fill: options.fill,
      faultAround: options.faultAround,
      faultDeadlineMs: options.faultDeadline,
      onFailure: options.onFailure,
      spinUs: options.spin,
      cpus: options.cpus,
      backgroundFill: options.backgroundFill,
      measure: options.metrics !== undefined,
      trace: options.trace !== undefined,
      numbers: this.#numbers,
      ...more,
    });
    const told = isUrl(file) ? displayUrl(file) : file;
    const served: Served = { file: told, source, server, listeners: [], ...(backing !== undefined && { backing }) };
    this.served.push(served);
    return served;
  }

  listen(served: Served, path: string, options: ServingOptions): HandoffListener {
    const listener = new HandoffListener(served.server, {
      path,
      allowUids: options.allowUid,
      handshakeTimeoutMs: options.handshakeTimeout,
      ...(served.backing !== undefined && { backing: served.backing }),
      about: { pid: process.pid, file: served.file, sizeBytes: served.source.sizeBytes },
    });
    served.listeners.push(listener);
    return listener;
  }

  /** Every socket with what is served at it. */
  all(): (Served & { listener: HandoffListener })[] {
    return this.served.flatMap((one) => one.listeners.map((listener) => ({ ...one, listener })));
  }

  get sessions(): number {
    return this.served.reduce((sum, { server }) => sum + server.sessions.length, 0);
  }

  stopListening(): void {
    for (const { listener } of this.all()) listener.close();
  }

  /** Completes the clients of all servers, in the same time. Who was left waiting, of each that could not be. */
  async drain(timeoutMs: number): Promise<string[]> {
    const results = await Promise.allSettled(this.served.map(({ server }) => server.drain(timeoutMs)));
    return results.filter((result) => result.status === 'rejected').map(({ reason }) => drainFailure(reason));
  }

  async close(): Promise<void> {
    this.stopListening();
    await Promise.all(this.served.map(({ server }) => server.close()));
    for (const { backing } of this.served.splice(0)) backing?.[Symbol.dispose]();
  }
}

function drainFailure(error: unknown): string {
  if (error instanceof UffdError && error.code === 'ERR_DRAIN_TIMEOUT') return messageOf(error);
  throw error;
}
