// The sessions of one serving worker: by the slot an event carries, and in small sets for those that need looking after,
// so that a thousand idle ones cost nothing.
import { KernelError, messageOf } from '../errors.js';
import { memoryKinds } from '../memory/kinds/kinds.js';
import { native } from '../native/load.js';
import { registerMask } from '../userfaultfd/features.js';
import type { AttachMessage, FromServing, SessionStats, SessionSummary } from './messages.js';
import { countersOf } from './session-counters.js';
import { Session } from './session.js';
import type { WatchedQueue } from './watched-queue.js';

/** Of a session whose pages are all in the page cache of the memory that its client was given. */
export const NOT_BACKED = 'the client has not mapped the memory that it was given here: is it no clone?';

export class Sessions {
  readonly #queue: WatchedQueue;
  readonly #post: (message: FromServing) => void;
  readonly #bySlot: (Session | undefined)[] = [];
  /** With faults that wait. */
  readonly attention = new Set<Session>();
  /** Whose client has closed its connection: over when none of its memory is left. */
  readonly orphans = new Set<Session>();
  /** To be completed. */
  readonly toDrain = new Set<Session>();
  /** Of whose memory something is brought before it is asked for. */
  readonly ahead = new Set<Session>();
  #draining = false;
  /** Whose messages cannot be read any more: when the policy acts on all of their pages, and how far it has come. */
  readonly unreadable = new Map<Session, { at: number; nextPage: number }>();

  readonly #prepare: (session: Session) => void;
  readonly #over: (session: Session) => void;

  /**
   * @param prepare called with each new session before its first fault, unless its pages are there already
   * @param over called when one ends, whatever it has asked for
   */
  constructor(
    queue: WatchedQueue,
    post: (message: FromServing) => void,
    prepare: (session: Session) => void,
    over: (session: Session) => void,
  ) {
    this.#queue = queue;
    this.#post = post;
    this.#prepare = prepare;
    this.#over = over;
  }

  at(slot: number): Session | undefined {
    return this.#bySlot[slot];
  }

  byId(id: number): Session | undefined {
    return this.#bySlot.find((session) => session?.id === id);
  }

  /** False once it is over: what was planned or fetched for it is for nobody. */
  has(session: Session): boolean {
    return session.slot >= 0 && this.#bySlot[session.slot] === session;
  }

  all(): Session[] {
    return this.#bySlot.filter((session) => session !== undefined);
  }

  /** The new session; undefined when it cannot be had. */
  attach(message: AttachMessage): Session | undefined {
    const { moved } = message;
    const slot = this.#queue.add(message.userfaultfd, message.memory, message.session);
    try {
      if (slot < 0) throw new KernelError(slot, 'epoll_ctl');
      const kind = memoryKinds[message.kind];
      const backed = message.resident && kind.behind === 'kept';
      if (moved === undefined && backed) this.#registerMinor(slot, message, NOT_BACKED);
      else if (moved === undefined && message.fill === 'continue') {
        const detail = `to fill ${kind.name} memory by writing it needs minor faults: fill it by copy`;
        this.#registerMinor(slot, message, detail);
      }
      const writable = message.memory >= 0;
      const { attention } = this;
      const session = new Session({ ...message, id: message.session, slot, kind, backed, writable, attention });
      if (moved !== undefined) session.goOn(moved);
      else if (message.resident) session.fillStates(message.holes);
      if (!message.resident) this.#prepare(session);
      if (moved?.orphaned === true) this.orphans.add(session);
      else if (!session.aheadOf.ended) this.ahead.add(session);
      this.#bySlot[slot] = session;
      if (this.#draining) this.toDrain.add(session);
      this.#post({ type: 'attached', session: session.id, slot, states: session.states.fd });
      return session;
    } catch (error) {
      if (slot < 0 && moved !== undefined) native().closeFd(moved.states);
      // No memory or descriptor for its states: this client's trouble, not that of the others.
      this.#queue.remove(slot);
      this.#post({ type: 'refused', session: message.session, error: messageOf(error) });
      return undefined;
    }
  }

  detach(session: Session, why: 'gone' | 'drained' | 'released'): void {
    if (!this.has(session)) return;
    this.#queue.remove(this.#forget(session));
    const stats = summaryOf(session);
    session.states.close();
    // Last: whoever hears of it finds nothing left of the session.
    this.#post({ type: 'detached', session: session.id, why, stats });
  }

  /** Every session but these is another worker's: no answer of this one, and no change of a state, reaches them. */
  keepOnly(kept: readonly number[]): void {
    const left = this.all().filter(({ id }) => !kept.includes(id));
    const slots = left.map((session) => {
      session.states.leave();
      return this.#forget(session);
    });
    for (const slot of slots) this.#queue.remove(slot);
  }

  /** The slot that it had. */
  #forget(session: Session): number {
    const { slot } = session;
    session.slot = -1;
    this.#bySlot[slot] = undefined;
    for (const set of [this.attention, this.orphans, this.toDrain, this.unreadable, this.ahead]) set.delete(session);
    this.#over(session);
    return slot;
  }

  /**
   * Its client has closed the connection. What it does not ask for is not brought to it any more: at the same addresses
   * there may be other memory by now, and UFFDIO_COPY does not ask whose.
   */
  orphan(session: Session): void {
    this.orphans.add(session);
    this.ahead.delete(session);
  }

  /** From now on every session is to be completed, also one that is only being handed over. */
  drain(): void {
    this.#draining = true;
    for (const session of this.all()) this.toDrain.add(session);
  }

  /** Nothing more of it is answered. */
  park(session: Session, reason: string): void {
    if (session.parked !== undefined) return;
    session.parked = reason;
    this.#post({ type: 'parked', session: session.id, reason });
  }

  /**
   * Pages that are written into the memory, and then shown, are in its page cache before all of their bytes are. Only a
   * range that is registered for minor faults too keeps everybody from seeing them so. Where it is already, this changes
   * nothing. It cannot be done with memory that has no page cache, such as that of a client that has not mapped what it
   * was given, and would read zeroes.
   */
  #registerMinor(slot: number, { regions }: AttachMessage, detail: string): void {
    for (const { start, size } of regions) {
      const ioctls = this.#queue.register(slot, start, size, registerMask(['missing', 'minor']));
      if (typeof ioctls === 'number') throw new KernelError(ioctls, 'UFFDIO_REGISTER', detail);
    }
  }

  stats(states: boolean): (SessionSummary | SessionStats)[] {
    return this.all().map((session) => ({
      ...summaryOf(session),
      ...(states && { states: session.states.counts() }),
    }));
  }

  close(): void {
    for (const session of this.all()) session.states.close();
  }
}

/** Of those that wait, so many are named. */
const NAMED = 16;

/** Without the states, which take a look at every page. */
function summaryOf({ id, pages, waiting: all, counters }: Session): SessionSummary {
  const waiting = [];
  for (const [page, { reason }] of all) {
    if (waiting.length === NAMED) break;
    waiting.push({ page, reason });
  }
  return { session: id, pages, waitingPages: all.size, waiting, ...countersOf(counters) };
}
