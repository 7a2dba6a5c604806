// The loop of a serving worker: give the last answers and wait (one native call), decide about what came, repeat.
// Nothing in it waits for anything but the kernel, and nothing allocates per fault.
import type { MessagePort } from 'node:worker_threads';
import { AnswerOp, EventKind, EventRow, Held, QueueControl } from '../native/contract.js';
import { native } from '../native/load.js';
import { Ahead, preparation } from './ahead.js';
import { AnswerBlock } from './answer-block.js';
import { Arrivals } from './arrivals.js';
import { Bell } from './bell.js';
import { ControlPort } from './control-port.js';
import { Deadlines } from './deadlines.js';
import { Draining } from './draining.js';
import { FaultDecider } from './fault-decider.js';
import { FaultTrace } from './fault-trace.js';
import { Fetches } from './fetches.js';
import { Measures } from './measures.js';
import type { AttachMessage, FromServing, ServingOptions, ToServing } from './messages.js';
import { Orphans } from './orphans.js';
import { OtherEvents } from './other-events.js';
import { PageFaults } from './page-faults.js';
import { PageFiller } from './page-filler.js';
import type { PageSource } from './page-source.js';
import type { FaultPolicy } from './policy.js';
import { Sessions } from './sessions.js';
import { Settling } from './settling.js';
import { Unasked } from './unasked.js';
import { WatchedQueue } from './watched-queue.js';
import { WorkingSetRecorder } from './working-set.js';

const EVENT_ROWS = 1024;
/** No time-out of ours: the queue ends every wait after a while (kIdleMs). */
const IDLE = -1;
/** While an answer is to be tried again. */
const RETRY_MS = 1;
/** While deadlines run. */
const DEADLINE_MS = 20;

export class ServingLoop {
  readonly #port: MessagePort;
  readonly #asked: ControlPort;
  readonly #options: ServingOptions;
  readonly #source: PageSource | undefined;
  readonly #answers = new AnswerBlock();
  readonly #events = new Float64Array(new SharedArrayBuffer(EVENT_ROWS * EventRow.fields * 8));
  readonly #queue: WatchedQueue;
  readonly #fetches: Fetches;
  readonly #filler: PageFiller;
  readonly #decider: FaultDecider;
  readonly #faults: PageFaults;
  readonly #settling: Settling;
  readonly #deadlines: Deadlines;
  readonly #draining: Draining;
  readonly #ahead: Ahead;
  readonly #arrivals: Arrivals;
  readonly #sessions: Sessions;
  readonly #orphans: Orphans;
  readonly #otherEvents: OtherEvents;
  readonly #measures: Measures | undefined;
  readonly #trace: FaultTrace | undefined;
  #drainProgress = false;
  #aheadProgress = false;
  #sourceFailure: string | undefined;
  #stopped = false;
  #lastTick = 0;

  constructor(
    port: MessagePort,
    fetchPorts: readonly MessagePort[],
    options: ServingOptions,
    source: PageSource | undefined,
    policy: FaultPolicy,
  ) {
    this.#port = port;
    this.#asked = new ControlPort(port);
    this.#options = options;
    this.#source = source;
    this.#measures = options.measures && new Measures(options.measures);
    this.#trace = options.trace && new FaultTrace(options.trace);
    this.#queue = new WatchedQueue(this.#answers.values, this.#events, this.#taken);
    this.#queue.control[QueueControl.spinUs] = options.spinUs;
    const answers = this.#answers;
    const flush = this.#flush;
    const post = this.#post;
    const sourceFailure = () => this.#sourceFailure;
    const { faultDeadlineMs, onFailure, sourceSizeBytes, demandBytes, backgroundBytes } = options;
    const recorder = options.recording === undefined ? undefined : new WorkingSetRecorder(options.recording);
    const fetches = new Fetches(fetchPorts, options.fetchesAsked, sourceSizeBytes, this.#queue.wakeFd);
    this.#fetches = fetches;
    const prepare = preparation(options, recorder, this.#measures);
    const sessions = new Sessions(this.#queue, post, prepare, (session) => {
      fetches.cancel(session);
    });
    this.#sessions = sessions;
    this.#orphans = new Orphans(this.#queue, sessions);
    this.#otherEvents = new OtherEvents({ events: this.#events, queue: this.#queue, sessions, faultDeadlineMs });
    const filler = new PageFiller(source, sourceSizeBytes, answers, flush);
    this.#filler = filler;
    this.#deadlines = new Deadlines({ answers, sessions, fetches, onFailure, post, flush });
    const parts = { answers, fetches, faultDeadlineMs, sourceFailure, flush };
    this.#decider = new FaultDecider({ ...parts, sessions, filler, policy, recorder, demandBytes });
    const unasked = new Unasked({ filler, fetches, decider: this.#decider });
    const giveUp = this.#deadlines.giveUp.bind(this.#deadlines);
    this.#draining = new Draining({ ...parts, queue: this.#queue, unasked, sessions, backgroundBytes, giveUp });
    this.#ahead = new Ahead({ unasked, fetches, sessions });
    this.#settling = this.#newSettling();
    this.#arrivals = this.#newArrivals();
    this.#faults = new PageFaults({
      sessions,
      otherEvents: this.#otherEvents,
      decider: this.#decider,
      settling: this.#settling,
      trace: this.#trace,
      faultDeadlineMs,
    });
  }

  #newSettling(): Settling {
    return new Settling({
      answers: this.#answers,
      faultDeadlineMs: this.#options.faultDeadlineMs,
      measures: this.#measures,
      has: (session) => this.#sessions.has(session),
      draining: (session) => this.#sessions.toDrain.has(session),
      gone: (session) => {
        this.#sessions.detach(session, 'gone');
      },
      poisoned: (session, page, reason) => {
        this.#post({ type: 'unserved', session: session.id, action: 'poison', page, reason });
      },
      cannotPoison: (session, page) => {
        this.#deadlines.cannotPoison(session, page);
      },
    });
  }

  #newArrivals(): Arrivals {
    return new Arrivals({
      fetches: this.#fetches,
      filler: this.#filler,
      sessions: this.#sessions,
      settling: this.#settling,
      decider: this.#decider,
      faultDeadlineMs: this.#options.faultDeadlineMs,
      readFailed: (error, sourceChanged) => {
        if (sourceChanged || this.#source?.unchanged?.() === false) this.#failSource(error);
      },
    });
  }

  /** Returns when the server says stop. Blocks the thread it runs on. */
  run(): void {
    const { wakeFd, control } = this.#queue;
    this.#post({ type: 'ready', bell: Bell.given(wakeFd), control, answers: this.#answers.values });
    while (!this.#stopped) {
      // Only where it is measured: the time of the answers is wanted without that of waiting for the next faults.
      if (this.#measures !== undefined && this.#answers.count > 0) this.#flush();
      this.#verify();
      const rows = this.#queue.answerAndWait(this.#answers.count, this.#timeout());
      if (this.#queue.tookLong) this.#verifyGiven();
      this.#measures?.read();
      this.#trace?.read();
      this.#settle();
      const woken = this.#dispatch(rows);
      if (woken) {
        this.#arrivals.take();
        this.#takeControl();
      }
      this.#faults.retry();
      this.#tick();
      this.#drainProgress = this.#sessions.toDrain.size > 0 && this.#draining.round();
      this.#aheadProgress = this.#sessions.ahead.size > 0 && this.#bringAhead();
    }
    this.#sessions.close();
    this.#fetches.close();
    this.#queue.close();
  }

  #timeout(): number {
    if (this.#drainProgress || this.#aheadProgress) return 0;
    if (this.#settling.retries.length > 0 || this.#orphans.looking) return RETRY_MS;
    return this.#sessions.attention.size > 0 || this.#sessions.unreadable.size > 0 ? DEADLINE_MS : IDLE;
  }

  /** The check that comes after reading and before anything becomes visible. */
  #verify(): void {
    if (this.#answers.sourceRows === 0 || this.#source === undefined) return;
    if (this.#source.unchanged?.() === false) this.#failSource('the source has changed since it was opened');
    else if (this.#answers.heldRows === 0 || this.#source.held?.() !== false) return;
    this.#answers.cancelSourceRows();
  }

  /**
   * A client that holds the lock of its address space can make an answer wait until the lease on the source is broken: what
   * was shown by that one answer may be what somebody has written since. It is told.
   */
  #verifyGiven(): void {
    if (this.#answers.heldRows === 0 || this.#source?.held?.() !== false) return;
    for (const session of this.#answers.sessionsOfHeldRows()) {
      this.#sessions.park(
        session,
        'the snapshot was opened for writing while the client held the lock of its address space',
      );
    }
  }

  #failSource(reason: string): void {
    if (this.#sourceFailure !== undefined) return;
    this.#sourceFailure = reason;
    this.#post({ type: 'source-failed', reason });
  }

  /** Gives what is planned without waiting: the block or the buffer is full. */
  readonly #flush = (): void => {
    this.#verify();
    this.#queue.answer(this.#answers.count);
    if (this.#queue.tookLong) this.#verifyGiven();
    this.#measures?.given();
    this.#settle();
  };

  #settle(): void {
    this.#settling.settle();
    this.#queue.settled();
    this.#filler.reset();
    this.#arrivals.release();
  }

  /** Non-pagefault events first: a fault is decided from the state, and they change it. True when somebody rang. */
  #dispatch(rows: number): boolean {
    const events = this.#events;
    const end = rows * EventRow.fields;
    let woken = false;
    for (let at = 0; at < end; at += EventRow.fields) {
      const kind = events[at + EventRow.kind]!;
      if (kind === EventKind.pagefault) continue;
      if (kind === EventKind.woken) woken = true;
      else if (kind === EventKind.tick) this.#source?.tick?.();
      else this.#otherEvents.take(kind, at);
    }
    for (let at = 0; at < end; at += EventRow.fields) {
      if (events[at + EventRow.kind] !== EventKind.pagefault) continue;
      const session = this.#sessions.at(events[at + EventRow.slot]!);
      if (session !== undefined) this.#faults.take(session, events[at + EventRow.start]!, events[at + EventRow.flags]!);
    }
    return woken;
  }

  #takeControl(): void {
    let message;
    while ((message = this.#asked.next()) !== undefined) {
      if (message.type === 'attach' && this.#answers.count > 0) {
        // Its slot may be that of a session that has just ended, for which answers are planned. Giving them can take long.
        this.#asked.putBack(message);
        this.#flush();
      } else {
        this.#control(message);
      }
    }
  }

  /**
   * This thread was held by a client, and only what that one has is left here. May be called in the middle of anything that
   * makes a call, so what was asked of this worker meanwhile is left for later: a slot must not be another session's before
   * whoever is at it has come to an end.
   */
  readonly #taken = (): void => {
    const kept = this.#asked.kept();
    Atomics.store(this.#queue.control, QueueControl.held, Held.free);
    this.#sessions.keepOnly(kept);
    native().signalEvent(this.#queue.wakeFd);
  };

  #control(message: ToServing): void {
    switch (message.type) {
      case 'attach':
        this.#attach(message);
        break;
      case 'drain':
        this.#sessions.drain();
        break;
      case 'orphaned':
      case 'release': {
        const session = this.#sessions.byId(message.session);
        if (session === undefined) break;
        if (message.type === 'orphaned') this.#sessions.orphan(session);
        else this.#sessions.detach(session, 'released');
        break;
      }
      case 'stats':
        this.#post({ type: 'stats', request: message.request, sessions: this.#sessions.stats(message.states) });
        break;
      case 'stop':
        this.#stopped = true;
    }
  }

  #attach(message: AttachMessage): void {
    const session = this.#sessions.attach(message);
    if (session === undefined || message.moved === undefined) return;
    // Whose messages another worker has read: they come again.
    for (const region of session.regions) {
      if (this.#answers.full) this.#flush();
      this.#answers.add(AnswerOp.wake, session, region, region.firstPage, region.pages, -1);
    }
  }

  /** Orphans, and deadlines, these every DEADLINE_MS at most. */
  #tick(): void {
    const { attention, unreadable } = this.#sessions;
    if (attention.size === 0 && this.#orphans.none && unreadable.size === 0) return;
    const now = performance.now();
    this.#orphans.check(now);
    if (now - this.#lastTick < DEADLINE_MS) return;
    this.#lastTick = now;
    this.#deadlines.check(now);
  }

  #bringAhead(): boolean {
    return this.#sourceFailure === undefined && this.#ahead.step(this.#faults.anySince());
  }

  readonly #post = (message: FromServing): void => {
    this.#port.postMessage(message);
  };
}
