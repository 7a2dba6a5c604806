// Sessions whose client has closed its connection, but which may live on: over when the address space is gone, or when
// no page of theirs is registered in it any more. Otherwise a process that comes back with ever new memory leaves ever
// more descriptors here.
import type { Session } from './session.js';
import { Counter } from './session-counters.js';
import type { Sessions } from './sessions.js';
import type { WatchedQueue } from './watched-queue.js';

/** Whether something of it is still registered. */
const ASK_MS = 20;
/** While it is found out that nothing is: page by page, since a client can have unmapped a part of its memory only. */
const LOOK_MS = 1;
/** Questions in one look. */
const QUESTIONS = 1024;
const ESRCH = -3;

interface Look {
  /** Registered when last asked, or the next one to be asked about. */
  page: number;
  /** So many before it are not registered, one after the other. */
  unregistered: number;
  /** Of the session when the look began: whose memory faults has registered some. */
  faults: number;
}

export class Orphans {
  readonly #queue: WatchedQueue;
  readonly #sessions: Sessions;
  readonly #looks = new WeakMap<Session, Look>();
  #looking = false;
  #next = 0;
  #nextOfAll = 0;

  constructor(queue: WatchedQueue, sessions: Sessions) {
    this.#queue = queue;
    this.#sessions = sessions;
  }

  /** Whether it should be called again soon: there is more to ask. */
  get looking(): boolean {
    return this.#looking;
  }

  /** Whether `check` has nothing to do. */
  get none(): boolean {
    return this.#sessions.orphans.size === 0 && !this.#looking;
  }

  check(now: number): void {
    if (now < this.#next) return;
    const all = now >= this.#nextOfAll;
    if (all) this.#nextOfAll = now + ASK_MS;
    this.#looking = false;
    let questions = QUESTIONS;
    for (const session of this.#sessions.orphans) {
      const look = this.#lookOf(session);
      if (!all && look.unregistered === 0) continue;
      // Whoever waits is answered first, or left to the deadline. And of a parked session it is not known what it has
      // registered: that it is parked may be for an event that says so.
      if (session.waiting.size > 0 || session.parked !== undefined) {
        look.unregistered = 0;
        if (this.#queue.alive(session.slot) === 0) this.#sessions.detach(session, 'gone');
      } else {
        questions -= this.#look(session, look, Math.max(1, questions));
      }
    }
    this.#next = this.looking ? now + LOOK_MS : this.#nextOfAll;
  }

  /** Returns how many questions it took. */
  #look(session: Session, look: Look, most: number): number {
    let asked = 0;
    while (look.unregistered < session.pages && asked < most) {
      const region = session.regionOfPage(look.page);
      const count = Math.min(region.firstPage + region.pages - look.page, most - asked);
      const address = session.addressOf(region, look.page);
      const pages = this.#queue.unregisteredBefore(session.slot, address, session.pageSize, count);
      if (pages === ESRCH) {
        this.#sessions.detach(session, 'gone');
        return asked + 1;
      }
      asked += Math.min(count, pages + 1);
      look.unregistered += pages;
      look.page = (look.page + pages) % session.pages;
      if (pages < count) {
        look.unregistered = 0;
        return asked;
      }
    }
    if (look.unregistered >= session.pages) this.#sessions.detach(session, 'gone');
    else this.#looking = true;
    return asked;
  }

  #lookOf(session: Session): Look {
    const faults = session.counters[Counter.faults]!;
    let look = this.#looks.get(session);
    if (look === undefined) {
      look = { page: 0, unregistered: 0, faults };
      this.#looks.set(session, look);
    } else if (look.faults !== faults) {
      look.unregistered = 0;
      look.faults = faults;
    }
    return look;
  }
}
