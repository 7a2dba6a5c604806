// The sessions of one serving worker: by the slot an event carries, and in small sets for those that need looking after,
// so that a thousand idle ones cost nothing.
import { KernelError, checked, messageOf } from '../errors.js';
import { memoryKinds } from '../memory/kinds/kinds.js';
import type { NativeFaultQueue } from '../native/contract.js';
import { native } from '../native/load.js';
import { registerMask } from '../userfaultfd/features.js';
import type { AttachMessage, FromServing, SessionStats, SessionSummary } from './messages.js';
import { Session } from './session.js';

export class Sessions {
  readonly #queue: NativeFaultQueue;
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
    queue: NativeFaultQueue,
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
    return this.#bySlot[session.slot] === session;
  }

  all(): Session[] {
    return this.#bySlot.filter((session) => session !== undefined);
  }

  attach(message: AttachMessage): void {
    const slot = this.#queue.add(message.userfaultfd, message.memory);
    try {
      if (slot < 0) throw new KernelError(slot, 'epoll_ctl');
      if (message.fill === 'continue') keepUnseen(message);
      const kind = memoryKinds[message.kind];
      const writable = message.memory >= 0;
      const { attention } = this;
      const session = new Session({ ...message, id: message.session, slot, kind, writable, attention });
      if (message.resident) session.fillStates(message.holes);
      else this.#prepare(session);
      if (!session.aheadOf.ended) this.ahead.add(session);
      this.#bySlot[slot] = session;
      if (this.#draining) this.toDrain.add(session);
      this.#post({ type: 'attached', session: message.session });
    } catch (error) {
      // No memory or descriptor for its states: this client's trouble, not that of the others.
      this.#queue.remove(slot);
      this.#post({ type: 'attached', session: message.session, error: messageOf(error) });
    }
  }

  detach(session: Session, why: 'gone' | 'drained' | 'released'): void {
    if (!this.has(session)) return;
    this.#bySlot[session.slot] = undefined;
    for (const set of [this.attention, this.orphans, this.toDrain, this.unreadable, this.ahead]) set.delete(session);
    this.#over(session);
    this.#queue.remove(session.slot);
    const stats = summaryOf(session);
    session.close();
    // Last: whoever hears of it finds nothing left of the session.
    this.#post({ type: 'detached', session: session.id, why, stats });
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

  stats(states: boolean): (SessionSummary | SessionStats)[] {
    return this.all().map((session) => ({
      ...summaryOf(session),
      ...(states && { states: session.states.counts() }),
    }));
  }

  close(): void {
    for (const session of this.all()) session.close();
  }
}

/** Without the states, which take a look at every page. */
function summaryOf(session: Session): SessionSummary {
  const waiting = Array.from(session.waiting, ([page, { reason }]) => ({ page, reason }));
  return { session: session.id, pages: session.pages, waiting, ...session.counters };
}

/**
 * Pages that are written into the memory, and then shown, are in its page cache before all of their bytes are. Only a range
 * that is registered for minor faults too keeps everybody from seeing them so. Where it is already, this changes nothing.
 */
function keepUnseen({ userfaultfd, regions, kind }: AttachMessage): void {
  const descriptor = new (native().Userfaultfd)(checked(native().duplicateFd(userfaultfd), 'fcntl'));
  try {
    for (const { start, size } of regions) {
      const ioctls = descriptor.register(start, size, registerMask(['missing', 'minor']));
      const detail = `to fill ${kind} memory by writing it needs minor faults: fill it by copy`;
      if (typeof ioctls === 'number') throw new KernelError(ioctls, 'UFFDIO_REGISTER', detail);
    }
  } finally {
    descriptor.close();
  }
}
