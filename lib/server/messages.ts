// What the main thread, the serving workers and the fetch workers tell each other.
import type { MessagePort } from 'node:worker_threads';
import type { FillWay } from '../memory/kinds/kind.js';
import type { memoryKinds } from '../memory/kinds/kinds.js';
import type { GivenAnswer } from './answer-block.js';
import type { ModuleReference } from './page-source.js';
import type { StateCounts } from './page-states.js';
import type { SessionCounters } from './session-counters.js';
import type { WorkingSet } from './working-set.js';

/** What the server does at the deadline of a fault it cannot answer. */
export type FailurePolicy = 'poison' | 'kill' | 'stall';

/** What is told of a session at its end. */
export interface SessionSummary extends SessionCounters {
  readonly session: number;
  readonly pages: number;
  /** How many pages wait for an answer, or for their content at the end. */
  readonly waitingPages: number;
  /** Some of them, with the reason. */
  readonly waiting: readonly { page: number; reason: string }[];
}

export interface SessionStats extends SessionSummary {
  readonly states: StateCounts;
}

/** Everything a serving worker is started with. */
export interface ServingOptions {
  readonly sourceSizeBytes: number;
  /** Opened in the worker; none when the source has no readNow. */
  readonly source?: ModuleReference;
  readonly policy?: ModuleReference;
  /** Pages brought along by the default policy. */
  readonly faultAround: number;
  /** The most bytes of a fetch that somebody waits for. */
  readonly demandBytes: number;
  /** The most bytes of a fetch by which a session is completed. */
  readonly backgroundBytes: number;
  readonly faultDeadlineMs: number;
  readonly onFailure: FailurePolicy;
  readonly spinUs: number;
  readonly cpus: readonly number[];
  /** Int32Array: reads under way at each fetch worker. */
  readonly fetchesAsked: SharedArrayBuffer;
  /** Of a WorkingSetRecorder, where what is asked for is recorded. */
  readonly recording?: SharedArrayBuffer;
  /** Of Measures and a FaultTrace, one of each for this worker; none where nobody wants to know. */
  readonly measures?: SharedArrayBuffer;
  readonly trace?: SharedArrayBuffer;
  /** Brought before it is asked for, to sessions with pages of that size. */
  readonly replay?: WorkingSet;
  /** Everything is brought in the end. */
  readonly backgroundFill: boolean;
}

export interface AttachMessage {
  readonly type: 'attach';
  readonly session: number;
  /** Both descriptors belong to the worker from here on; memory is -1 when there is none it may write to. */
  readonly userfaultfd: number;
  readonly memory: number;
  readonly kind: keyof typeof memoryKinds;
  readonly fill: FillWay;
  readonly pageSize: number;
  readonly regions: readonly { start: number; size: number; offset: number }[];
  /** All pages hold their content already: MINOR faults are continued, nothing is fetched. */
  readonly resident: boolean;
  readonly holes: Float64Array;
  /** Of a session that another worker had. */
  readonly moved?: MovedStates;
}

/** How far another worker has come with a session. */
export interface MovedStates {
  /** The descriptor of its page states, the new worker's from here on. */
  readonly states: number;
  /** Answers that were given, and are not in its states yet. */
  readonly given: readonly GivenAnswer[];
  /** Why nothing more of it is answered. */
  readonly parked: string | undefined;
  /** Its client has closed the connection. */
  readonly orphaned: boolean;
}

export type ToServing =
  | AttachMessage
  | { readonly type: 'drain' }
  | { readonly type: 'orphaned'; readonly session: number }
  | { readonly type: 'release'; readonly session: number }
  /** Without `states` nobody looks at every page. */
  | { readonly type: 'stats'; readonly request: number; readonly states: boolean }
  /** While the worker was held by a client, every session but these was given to another one. */
  | { readonly type: 'taken'; readonly kept: readonly number[] }
  | { readonly type: 'stop' };

export type FromServing =
  /** With the memory of its FaultQueue, and the descriptor of a Bell. */
  | { readonly type: 'ready'; readonly bell: number; readonly control: Int32Array; readonly answers: Float64Array }
  | { readonly type: 'failed'; readonly error: string }
  | { readonly type: 'attached'; readonly session: number; readonly slot: number; readonly states: number }
  | { readonly type: 'refused'; readonly session: number; readonly error: string }
  /** The session is over: its address space is gone, or it was drained. */
  | {
      readonly type: 'detached';
      readonly session: number;
      readonly why: 'gone' | 'drained' | 'released';
      readonly stats: SessionSummary;
    }
  | { readonly type: 'parked'; readonly session: number; readonly reason: string }
  | {
      readonly type: 'unserved';
      readonly session: number;
      readonly action: FailurePolicy;
      readonly page: number;
      readonly reason: string;
    }
  | { readonly type: 'source-failed'; readonly reason: string }
  | { readonly type: 'stats'; readonly request: number; readonly sessions: readonly (SessionSummary | SessionStats)[] };

/** To a fetch worker: the end of a serving worker's channel, or that it is over. */
export type ToFetching = { readonly port: MessagePort } | 'stop';

/** A read for a fetch worker; its bytes go to `arena` at `arenaOffset`. */
export interface FetchRequest {
  readonly id: number;
  readonly place: number;
  readonly arenaOffset: number;
  readonly length: number;
  readonly offset: number;
}
/** Nobody wants what was asked for any more; it is answered all the same. */
export interface FetchCancel {
  readonly cancel: number;
}
export interface FetchArena {
  readonly arena: SharedArrayBuffer;
  /** Int32Array, one for each place: the number of the last request that was cancelled there, plus 1. */
  readonly cancelled: SharedArrayBuffer;
  /** The descriptor of a Bell, to ring when a reply has been posted. */
  readonly bell: number;
}
export interface FetchReply {
  readonly id: number;
  /** The source is not what it was: nothing of it can be shown any more. */
  readonly sourceChanged?: boolean;
  readonly error?: string;
}
