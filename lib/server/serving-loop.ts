// The loop of a serving worker: give the last answers and wait (one native call), decide about what came, repeat.
// Nothing in it waits for anything but the kernel, and nothing allocates per fault.
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { KernelError } from '../errors.js';
import { memoryKinds } from '../memory/kinds.js';
import { EventKind, EventRow, type NativeFaultQueue } from '../native/contract.js';
import { native } from '../native/load.js';
import { AnswerBlock } from './answer-block.js';
import { Deadlines } from './deadlines.js';
import { Draining } from './draining.js';
import { FaultDecider } from './fault-decider.js';
import { type Fetch, Fetches } from './fetches.js';
import type { AttachMessage, FromServing, ServingOptions, SessionStats, ToServing } from './messages.js';
import { PageFiller } from './page-filler.js';
import type { PageSource } from './page-source.js';
import { PageState } from './page-states.js';
import type { FaultPolicy } from './policy.js';
import { MAX_ATTEMPTS, Session } from './session.js';
import { Settling } from './settling.js';

const EVENT_ROWS = 1024;
/** The longest wait: worker.terminate() and process exit go through after it even if nobody rings. */
const IDLE_MS = 250;
/** While an answer is to be tried again. */
const RETRY_MS = 1;
/** While deadlines run. */
const DEADLINE_MS = 20;
const MINOR_FLAG = 4;

export class ServingLoop {
  readonly #port: MessagePort;
  readonly #options: ServingOptions;
  readonly #source: PageSource | undefined;
  readonly #answers = new AnswerBlock();
  readonly #events = new Float64Array(new SharedArrayBuffer(EVENT_ROWS * EventRow.fields * 8));
  readonly #queue: NativeFaultQueue;
  readonly #fetches: Fetches;
  readonly #filler: PageFiller;
  readonly #decider: FaultDecider;
  readonly #settling: Settling;
  readonly #deadlines: Deadlines;
  readonly #draining: Draining;
  /** By slot of the queue, which is what an event carries. */
  readonly #sessions: (Session | undefined)[] = [];
  /** Fetches whose bytes are in answers not given yet. */
  readonly #unreleased: Fetch[] = [];
  /** Sessions with faults that wait; so that a thousand idle ones cost nothing. */
  readonly #attention = new Set<Session>();
  readonly #orphans = new Set<Session>();
  readonly #toDrain = new Set<Session>();
  #drainProgress = false;
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
    this.#options = options;
    this.#source = source;
    this.#queue = new (native().FaultQueue)(this.#answers.values, this.#events);
    if (this.#queue.error() < 0) throw new KernelError(this.#queue.error(), 'epoll_create');
    const answers = this.#answers;
    const flush = () => {
      this.#flush();
    };
    const sourceFailure = () => this.#sourceFailure;
    const { faultDeadlineMs, onFailure, sourceSizeBytes } = options;
    const post = (message: FromServing) => {
      this.#post(message);
    };
    this.#fetches = new Fetches(fetchPorts, sourceSizeBytes, this.#queue.wakeFd());
    this.#filler = new PageFiller(source, sourceSizeBytes, answers, flush);
    this.#draining = new Draining(answers, this.#filler, this.#fetches);
    this.#deadlines = new Deadlines({ answers, onFailure, post, flush });
    this.#decider = new FaultDecider({
      answers,
      filler: this.#filler,
      fetches: this.#fetches,
      policy,
      faultDeadlineMs,
      sourceFailure,
      flush,
    });
    this.#settling = new Settling({
      answers,
      faultDeadlineMs,
      sourceFailure,
      gone: (session) => {
        this.#detach(session, 'gone');
      },
      poisoned: (session, page, reason) => {
        post({ type: 'unserved', session: session.id, action: 'poison', page, reason });
      },
      cannotPoison: (session, page) => {
        this.#deadlines.cannotPoison(session, page);
      },
    });
  }

  /** Returns when the server says stop. Blocks the thread it runs on. */
  run(): void {
    this.#post({ type: 'ready', wakeFd: this.#queue.wakeFd() });
    while (!this.#stopped) {
      this.#verify();
      const rows = this.#queue.answerAndWait(this.#answers.count, this.#timeout(), this.#options.spinUs);
      if (rows < 0) throw new KernelError(rows, 'epoll_wait');
      this.#settle();
      const woken = this.#dispatch(rows);
      if (woken) {
        this.#takeReplies();
        this.#takeControl();
      }
      this.#retry();
      this.#tick();
      this.#drain();
    }
    for (const session of this.#sessions) session?.close();
    this.#fetches.close();
    this.#queue.close();
  }

  #timeout(): number {
    if (this.#drainProgress) return 0;
    if (this.#settling.retries.length > 0) return RETRY_MS;
    return this.#attention.size > 0 || this.#deadlines.pending ? DEADLINE_MS : IDLE_MS;
  }

  /** The check that comes after reading and before anything becomes visible. */
  #verify(): void {
    if (this.#answers.sourceRows === 0 || this.#source?.unchanged === undefined) return;
    if (this.#source.unchanged()) return;
    this.#failSource('the source has changed since it was opened');
    this.#answers.cancelSourceRows();
  }

  #failSource(reason: string): void {
    if (this.#sourceFailure !== undefined) return;
    this.#sourceFailure = reason;
    this.#post({ type: 'source-failed', reason });
  }

  /** Gives what is planned without waiting: the block or the buffer is full. */
  #flush(): void {
    this.#verify();
    this.#queue.answer(this.#answers.count);
    this.#settle();
  }

  #settle(): void {
    this.#settling.settle();
    this.#filler.reset();
    for (const fetch of this.#unreleased) this.#fetches.release(fetch);
    this.#unreleased.length = 0;
  }

  /** Non-pagefault events first: a fault is decided from the state, and they change it. True when somebody rang. */
  #dispatch(rows: number): boolean {
    let woken = false;
    let faults = 0;
    for (let row = 0; row < rows; row++) {
      const at = row * EventRow.fields;
      const kind = this.#events[at + EventRow.kind]!;
      if (kind === EventKind.pagefault) faults++;
      else if (kind === EventKind.woken) woken = true;
      else this.#otherEvent(kind, at);
    }
    for (let row = 0; faults > 0 && row < rows; row++) {
      const at = row * EventRow.fields;
      if (this.#events[at + EventRow.kind] !== EventKind.pagefault) continue;
      faults--;
      const session = this.#sessions[this.#events[at + EventRow.slot]!];
      if (session !== undefined)
        this.#fault(session, this.#events[at + EventRow.start]!, this.#events[at + EventRow.flags]!);
    }
    return woken;
  }

  #fault(session: Session, address: number, flags: number): void {
    session.counters.faults++;
    const region = session.regionAt(address);
    if (region === undefined) {
      const reason = `a fault at 0x${address.toString(16)}, which is in no mapping of the handshake`;
      this.#park(session, reason);
      session.stray(address - (address % session.pageSize), reason, this.#options.faultDeadlineMs);
      return;
    }
    const page = region.firstPage + Math.floor((address - region.start) / session.pageSize);
    if (session.parked !== undefined) session.wait(page, session.parked, this.#options.faultDeadlineMs);
    else this.#decider.decide(session, region, page, flags, false);
  }

  #otherEvent(kind: number, at: number): void {
    const session = this.#sessions[this.#events[at + EventRow.slot]!];
    if (session === undefined) return;
    switch (kind) {
      case EventKind.remove:
      case EventKind.unmap:
        this.#removed(session, this.#events[at + EventRow.start]!, this.#events[at + EventRow.end]!);
        break;
      case EventKind.descriptorError: {
        const errno = this.#events[at + EventRow.flags]!;
        const why = errno === 0 ? 'O_NONBLOCK was cleared on it' : new KernelError(-errno, 'read').message;
        this.#queue.mute(session.slot);
        this.#park(session, `the userfaultfd cannot be read: ${why}`);
        this.#deadlines.unreadable(session, performance.now() + this.#options.faultDeadlineMs);
        break;
      }
      default:
        // The handshake refuses descriptors with features the server has no answer to; a newer kernel's event is one.
        if (kind === EventKind.fork) native().closeFd(this.#events[at + EventRow.extra]!);
        this.#park(session, `an event the server does not handle (0x${kind.toString(16)})`);
    }
  }

  #removed(session: Session, start: number, end: number): void {
    for (const region of session.regions) {
      const from = Math.max(start, region.start);
      const to = Math.min(end, region.end);
      if (from >= to) continue;
      const first = region.firstPage + Math.floor((from - region.start) / session.pageSize);
      const last = region.firstPage + Math.ceil((to - region.start) / session.pageSize);
      session.states.set(first, last - first, PageState.removed);
    }
  }

  #park(session: Session, reason: string): void {
    if (session.parked !== undefined) return;
    session.parked = reason;
    this.#post({ type: 'parked', session: session.id, reason });
  }

  /** What fetch workers have read: shown where it is still wanted. */
  #takeReplies(): void {
    for (const { fetch, address, error } of this.#fetches.replies()) {
      this.#unreleased.push(fetch);
      const { session, region, first, pages, cached } = fetch;
      if (this.#sessions[session.slot] !== session) continue;
      if (error !== undefined) {
        this.#fetchFailed(fetch, error);
        continue;
      }
      for (let page = first; page < first + pages;) {
        const run = session.states.run(PageState.fetching, page, first + pages - page);
        if (run > 0) {
          const from = address + (page - first) * session.pageSize;
          this.#filler.show(session, region, page, run, -1, from, cached);
          page += run;
        } else {
          // Removed or poisoned while it was being fetched; if removed, whoever waits gets zeroes.
          if (session.waiting.has(page) && session.states.bytes[page] === PageState.removed) {
            this.#filler.zero(session, region, page);
          }
          page++;
        }
      }
    }
    for (const { session, page, flags } of this.#decider.backlog.splice(0)) {
      if (this.#sessions[session.slot] === session) this.#decide(session, page, flags);
    }
  }

  /** What could not be read together is tried a page at a time where somebody waits, and left to the deadline then. */
  #fetchFailed(fetch: Fetch, error: string): void {
    const { session, first, pages, cached } = fetch;
    if (this.#source?.unchanged?.() === false) this.#failSource(error);
    for (let page = first; page < first + pages; page++) {
      if (session.states.bytes[page] !== PageState.fetching) continue;
      session.states.set(page, 1, PageState.absent);
      const waiting = session.waiting.get(page);
      if (pages === 1) {
        const asleep = waiting !== undefined;
        const noted = session.wait(page, error, this.#options.faultDeadlineMs);
        noted.attempts = MAX_ATTEMPTS;
        noted.asleep = asleep;
      } else if (waiting !== undefined) {
        this.#settling.retries.push({ session, page, minor: cached });
      }
    }
  }

  #decide(session: Session, page: number, flags: number): void {
    if (session.parked === undefined) this.#decider.decide(session, session.regionOfPage(page), page, flags, true);
  }

  #retry(): void {
    for (const { session, page, minor } of this.#settling.retries.splice(0)) {
      if (this.#sessions[session.slot] === session) this.#decide(session, page, minor ? MINOR_FLAG : 0);
    }
  }

  #takeControl(): void {
    let received;
    while ((received = receiveMessageOnPort(this.#port)) !== undefined) this.#control(received.message as ToServing);
  }

  #control(message: ToServing): void {
    switch (message.type) {
      case 'attach':
        this.#attach(message);
        break;
      case 'drain':
        for (const session of this.#sessions) if (session !== undefined) this.#toDrain.add(session);
        break;
      case 'orphaned':
      case 'release': {
        const session = this.#sessions.find((one) => one?.id === message.session);
        if (session === undefined) break;
        if (message.type === 'orphaned') this.#orphans.add(session);
        else this.#detach(session, 'released');
        break;
      }
      case 'stats': {
        const sessions = this.#sessions.flatMap((session) => (session === undefined ? [] : [statsOf(session)]));
        this.#post({ type: 'stats', request: message.request, sessions });
        break;
      }
      case 'stop':
        this.#stopped = true;
    }
  }

  #attach(message: AttachMessage): void {
    const slot = this.#queue.add(message.userfaultfd, message.memory);
    if (slot < 0) {
      const error = new KernelError(slot, 'epoll_ctl').message;
      this.#post({ type: 'attached', session: message.session, error });
      return;
    }
    const kind = memoryKinds[message.kind];
    const writable = message.memory >= 0;
    const session = new Session({ ...message, id: message.session, slot, kind, writable, attention: this.#attention });
    if (message.resident) session.states.set(0, session.pages, PageState.resident);
    this.#sessions[slot] = session;
    this.#post({ type: 'attached', session: message.session });
  }

  #detach(session: Session, why: 'gone' | 'drained' | 'released'): void {
    if (this.#sessions[session.slot] !== session) return;
    this.#sessions[session.slot] = undefined;
    this.#deadlines.forget(session);
    for (const set of [this.#attention, this.#orphans, this.#toDrain]) set.delete(session);
    this.#queue.remove(session.slot);
    this.#post({ type: 'detached', session: session.id, why, stats: statsOf(session) });
    session.close();
  }

  /** Deadlines and orphans, every DEADLINE_MS at most. */
  #tick(): void {
    const now = performance.now();
    if (now - this.#lastTick < DEADLINE_MS) return;
    this.#lastTick = now;
    for (const session of this.#orphans) {
      if (this.#queue.alive(session.slot) === 0) this.#detach(session, 'gone');
    }
    for (const session of this.#attention) {
      if (session.waiting.size === 0 && session.strays.size === 0) this.#attention.delete(session);
      else this.#deadlines.check(session, now);
    }
    this.#deadlines.checkUnreadable(now);
  }

  /** Demand has been looked after in this round: one step for each session that is to be completed. */
  #drain(): void {
    this.#drainProgress = false;
    for (const session of this.#toDrain) {
      if (session.parked !== undefined) continue;
      if (this.#sourceFailure === undefined && !this.#fetches.full && this.#draining.step(session)) {
        this.#drainProgress = true;
      } else if (this.#answers.count === 0 && this.#draining.complete(session)) {
        this.#draining.finish(session);
        this.#flush();
        this.#detach(session, 'drained');
      }
    }
  }

  #post(message: FromServing): void {
    this.#port.postMessage(message);
  }
}

function statsOf(session: Session): SessionStats {
  const waiting = Array.from(session.waiting, ([page, { reason }]) => ({ page, reason }));
  return { session: session.id, pages: session.pages, states: session.states.counts(), waiting, ...session.counters };
}
