// `--record FILE` and `--replay FILE`: working sets checked against the snapshot at the start, written while it is served.
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../errors.js';
import type { FaultServer } from '../server/fault-server.js';
import type { WorkingSet } from '../server/working-set.js';
import { type SnapshotDigest, digestOf } from '../sources/digest.js';
import {
  type RecordedWorkingSet,
  checkBelongs,
  checkSize,
  readWorkingSet,
  writeWorkingSet,
} from '../sources/working-set-file.js';
import type { HandoffListener } from '../transports/handoff-listener.js';
import { naming } from './option-error.js';
import type { ServeLog } from './serve-log.js';

const WRITE_EVERY_MS = 5000;

export interface WorkingSetOptions {
  readonly record?: string | undefined;
  readonly replay?: string | undefined;
}

export interface PreparedWorkingSets {
  readonly snapshot: SnapshotDigest;
  readonly replay?: WorkingSet;
  /** What the file to record to has already. */
  readonly earlier?: WorkingSet;
}

/**
 * Reads what there is and checks that it belongs to the snapshot, before anybody is served.
 * @throws UffdError ERR_RECORD_REFUSED
 */
export async function prepareWorkingSets(
  file: string,
  { record, replay }: WorkingSetOptions,
  log: ServeLog,
): Promise<PreparedWorkingSets> {
  const replayed = replay === undefined ? undefined : naming('--replay', () => readWorkingSet(replay));
  const recorded = record === undefined ? undefined : naming('--record', () => earlierIn(record));
  const { size } = statSync(file);
  if (replayed !== undefined) checkSize(replay!, replayed, size);
  if (recorded !== undefined) checkSize(record!, recorded, size);
  const known = [replayed, recorded].filter((one) => one !== undefined).map(({ snapshot }) => snapshot);
  const started = performance.now();
  const snapshot = await digestOf(file, known);
  const seconds = Number(((performance.now() - started) / 1000).toFixed(3));
  log.say({ event: 'digest', file, sha256: snapshot.sha256, seconds });
  if (replayed !== undefined) checkBelongs(replay!, replayed, snapshot);
  if (recorded !== undefined) checkBelongs(record!, recorded, snapshot);
  return {
    snapshot,
    ...(replayed !== undefined && { replay: replayed.workingSet }),
    ...(recorded !== undefined && { earlier: recorded.workingSet }),
  };
}

function earlierIn(record: string): RecordedWorkingSet | undefined {
  accessSync(dirname(record), constants.W_OK | constants.X_OK);
  return existsSync(record) ? readWorkingSet(record) : undefined;
}

/** Writes what is recorded to the file, whenever there is more of it. */
export class RecordWriter {
  readonly #server: FaultServer;
  readonly #path: string;
  readonly #snapshot: SnapshotDigest;
  readonly #log: ServeLog;
  readonly #timer: NodeJS.Timeout;
  #written: number;

  constructor(server: FaultServer, path: string, snapshot: SnapshotDigest, log: ServeLog) {
    this.#server = server;
    this.#path = path;
    this.#snapshot = snapshot;
    this.#log = log;
    this.#written = server.workingSetChanges;
    const write = () => {
      this.write();
    };
    this.#timer = setInterval(write, WRITE_EVERY_MS).unref();
    server.on('detached', write);
  }

  write(): void {
    const changes = this.#server.workingSetChanges;
    const workingSet = changes === this.#written ? undefined : this.#server.workingSet();
    if (workingSet === undefined) return;
    try {
      writeWorkingSet(this.#path, { snapshot: this.#snapshot, workingSet });
      this.#written = changes;
    } catch (error) {
      this.#log.say({ event: 'warning', reason: `nothing was recorded: ${messageOf(error)}` });
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.write();
  }
}

/** A working set is of pages of one size: of clients with other pages nothing is recorded, and to them nothing is brought. */
export function warnOfPageSize(
  listener: HandoffListener,
  log: ServeLog,
  option: '--record' | '--replay',
  workingSet: () => WorkingSet | undefined,
): void {
  listener.on('session', (session, { pid }, _, { pageSize }) => {
    const recorded = workingSet()?.pageSize ?? pageSize;
    if (recorded === pageSize) return;
    const reason = `${option} does nothing for this client: its pages have ${pageSize} bytes, the recorded ones ${recorded}`;
    log.say({ event: 'warning', reason, session, pid });
  });
}
