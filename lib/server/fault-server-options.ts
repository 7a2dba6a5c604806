// What a fault server is started with, what it is given, and what it tells; checked where it comes in.
import { UffdError } from '../errors.js';
import type { GuestMemfd } from '../kvm/guest-memfd.js';
import type { FillWay } from '../memory/kinds/kind.js';
import { memoryKinds } from '../memory/kinds/kinds.js';
import type { Memfd } from '../memory/memfd.js';
import type { Userfaultfd } from '../userfaultfd/userfaultfd.js';
import type { FailurePolicy, ServingOptions, SessionSummary } from './messages.js';
import { MAX_FILL_BYTES } from './page-filler.js';
import { type ModuleReference, type SourceSpec, portable } from './page-source.js';
import type { WorkingSet } from './working-set.js';

/** What `FaultServer.start` takes. */
export interface FaultServerOptions {
  /** Where the bytes come from: `fileSource`, `httpSource`, `moduleSource` or `objectSource`. */
  readonly source: SourceSpec;
  /** Serving threads; a session belongs to one of them. Default 2. */
  readonly workers?: number;
  /** How absent pages are filled; `auto` is the measured best for the memory kind. Default `auto`. */
  readonly fill?: FillWay | 'auto';
  /** Pages brought along with a fault: an aligned window of so many. Default 64. */
  readonly faultAround?: number;
  /** A module of yours that decides instead; it exports `createPolicy(data): FaultPolicy`. */
  readonly policy?: ModuleReference;
  /** How long a fault may go unanswered, in milliseconds, before `onFailure` acts. Default 10,000. */
  readonly faultDeadlineMs?: number;
  /** `poison` the page (Linux 6.6; fatal for whoever touches it), `kill` the client, or let it `stall`. Default `poison`. */
  readonly onFailure?: FailurePolicy;
  /** Microseconds a worker polls before it sleeps. Costs a CPU, saves the wake-up across CPUs. Default 0. */
  readonly spinUs?: number;
  /** CPUs the serving workers may run on. Default: any. */
  readonly cpus?: readonly number[];
  /** Brings everything in the end, behind what is asked for. Default false. */
  readonly backgroundFill?: boolean;
  /** Brought before it is asked for, to clients with pages of that size: what `workingSet` gave in an earlier run. */
  readonly replay?: WorkingSet;
  /** Records what is asked for; `earlier` is added to it. Default: nothing is recorded. */
  readonly record?: boolean | { readonly earlier: WorkingSet };
  /** Times every answer, for `histograms()`. One more call into the addon for each batch of faults. Default false. */
  readonly measure?: boolean;
  /** Keeps a trace of the faults, for `takeTrace()`. Default false. */
  readonly trace?: boolean;
  /** Where the numbers of sessions come from: one for several servers makes a number mean one session. */
  readonly numbers?: { next: number };
}

/** Memory to be served. Of objects the server takes duplicates; plain descriptors are its own from the call on. */
export interface Attachment {
  readonly userfaultfd: Userfaultfd | number;
  /**
   * The memfd behind the regions, sealed against shrinking, or the guest_memfd; none for anonymous memory, or when it must
   * not be written.
   */
  readonly memory?: Memfd | GuestMemfd | number;
  readonly kind: keyof typeof memoryKinds;
  readonly pageSize: number;
  /** `start` is the address in the client; `offset` the one in the source and in the memory. All in bytes. */
  readonly regions: readonly { readonly start: bigint; readonly size: number; readonly offset: number }[];
  /** All pages hold their content already: MINOR faults are answered, nothing is fetched. Default false. */
  readonly resident?: boolean;
  /** Of resident memory, the parts that are holes: start and end of each, as offsets. Default none. */
  readonly holes?: Float64Array;
  /** The client's process, for `onFailure: 'kill'`; stays the caller's. */
  readonly pidfd?: number;
  /** Its number: sessions of one process have one lock, and wait for it together. */
  readonly pid?: number;
}

/** The events of a `FaultServer`, each with its arguments. */
export interface ServerEvents {
  attached: [session: number];
  /** A session is over: its process or its memory is gone, it was drained, or released. */
  detached: [session: number, why: 'gone' | 'drained' | 'released', stats: SessionSummary];
  /** Nothing more of the session is answered; the policy acts on each fault at its deadline. */
  parked: [session: number, reason: string];
  /**
   * A client has held the lock of its address space for so long that the other sessions of its worker, so many, were given
   * to another one: it alone is kept waiting. Which sessions hold it; and with 0, why the others have to wait as well.
   */
  held: [sessions: readonly number[], moved: number, reason?: string];
  /** A fault went unanswered to its deadline, and this was done. `page` is -1 where it is no page of a region. */
  unserved: [session: number, action: FailurePolicy, page: number, reason: string];
  /** The source can no longer be trusted: pages that are absent stay so. */
  'source-failed': [reason: string];
  /** The server has been closed; sessions it still had are served by nobody. */
  close: [];
  /** A worker ended unexpectedly: its sessions are served by nobody. Without a listener this is an uncaught exception. */
  error: [Error];
}

/** @throws UffdError ERR_OUT_OF_RANGE, ERR_INVALID_ARGUMENT */
export function checkOptions(options: FaultServerOptions): void {
  const { workers = 2, faultAround = 64, faultDeadlineMs = 10_000, spinUs = 0 } = options;
  inRange('workers', workers, 1, 64);
  inRange('faultAround', faultAround, 1, 2 ** 20);
  inRange('faultDeadlineMs', faultDeadlineMs, 0, 2 ** 31);
  inRange('spinUs', spinUs, 0, 1_000_000);
  const { policy, cpus = [] } = options;
  if (!Array.isArray(cpus)) throw new UffdError('ERR_INVALID_ARGUMENT', 'cpus is an array of their numbers');
  for (const cpu of cpus as readonly number[]) inRange('cpus', cpu, 0, 2 ** 31 - 1);
  oneOf('fill', options.fill, ['auto', 'copy', 'continue']);
  oneOf('onFailure', options.onFailure, ['poison', 'kill', 'stall']);
  if (policy !== undefined && !(policy.module instanceof URL) && typeof policy.module !== 'string') {
    throw new UffdError('ERR_INVALID_ARGUMENT', 'policy is a module: { module: new URL(...), data }');
  }
}

/** @throws UffdError ERR_OUT_OF_RANGE, ERR_INVALID_ARGUMENT */
export function checkAttachment({ kind, pageSize, regions }: Attachment): void {
  if (!(kind in memoryKinds)) throw new UffdError('ERR_INVALID_ARGUMENT', `unknown kind of memory ${kind}`);
  inRange('pageSize', pageSize, 1, MAX_FILL_BYTES);
  for (const { start, size, offset } of regions) {
    inRange('size', size, 1, Number.MAX_SAFE_INTEGER);
    inRange('offset', offset, 0, Number.MAX_SAFE_INTEGER - size);
    if (size % pageSize !== 0 || offset % pageSize !== 0 || start % BigInt(pageSize) !== 0n) {
      throw new UffdError('ERR_OUT_OF_RANGE', `start, size and offset must be multiples of pageSize ${pageSize}`);
    }
  }
}

function oneOf(name: string, value: string | undefined, known: readonly string[]): void {
  if (value !== undefined && !known.includes(value)) {
    throw new UffdError('ERR_INVALID_ARGUMENT', `${name} must be one of ${known.join(', ')}, not ${value}`);
  }
}

/** @throws UffdError ERR_OUT_OF_RANGE */
export function inRange(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new UffdError('ERR_OUT_OF_RANGE', `${name} must be a whole number from ${least} to ${most}, not ${value}`);
  }
}

/** What each serving worker is started with, but for what it shares with others. */
export function servingOptions(options: FaultServerOptions): Omit<ServingOptions, 'fetchesAsked'> {
  const { source, policy, replay, faultAround = 64, faultDeadlineMs = 10_000 } = options;
  return {
    sourceSizeBytes: source.sizeBytes,
    ...(source.module !== undefined && source.runsIn !== 'fetching' && { source: portable(source.module) }),
    ...(policy !== undefined && { policy: portable(policy) }),
    faultAround,
    demandBytes: source.demandBytes ?? MAX_FILL_BYTES,
    backgroundBytes: source.backgroundBytes ?? MAX_FILL_BYTES,
    faultDeadlineMs,
    onFailure: options.onFailure ?? 'poison',
    spinUs: options.spinUs ?? 0,
    cpus: options.cpus ?? [],
    ...(replay !== undefined && { replay }),
    backgroundFill: options.backgroundFill ?? false,
  };
}
