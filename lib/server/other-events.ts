// Events of a userfaultfd that are no page faults: what they change in the states, and whom nothing more can be answered.
import { KernelError } from '../errors.js';
import { EventKind, EventRow } from '../native/contract.js';
import { native } from '../native/load.js';
import type { Session } from './session.js';
import type { Sessions } from './sessions.js';
import type { WatchedQueue } from './watched-queue.js';

export interface OtherEventsParts {
  /** Rows of `EventRow`. */
  readonly events: Float64Array;
  readonly queue: WatchedQueue;
  readonly sessions: Sessions;
  readonly faultDeadlineMs: number;
}

export class OtherEvents {
  readonly #parts: OtherEventsParts;

  constructor(parts: OtherEventsParts) {
    this.#parts = parts;
  }

  /** @param at where its row begins */
  take(kind: number, at: number): void {
    const { events, sessions } = this.#parts;
    const session = sessions.at(events[at + EventRow.slot]!);
    if (session === undefined) return;
    switch (kind) {
      case EventKind.remove:
      case EventKind.unmap:
        session.remove(events[at + EventRow.start]!, events[at + EventRow.end]!);
        break;
      case EventKind.descriptorError:
        this.unreadable(session, `the userfaultfd cannot be read: ${whyUnreadable(events[at + EventRow.flags]!)}`);
        break;
      default:
        // The handshake refuses descriptors with features the server has no answer to; a newer kernel's event is one.
        if (kind === EventKind.fork) native().closeFd(events[at + EventRow.extra]!);
        sessions.park(session, `an event the server does not handle (0x${kind.toString(16)})`);
    }
  }

  /** Its messages are not read any more: at the deadline the policy acts on all of its pages. */
  unreadable(session: Session, why: string): void {
    const { queue, sessions, faultDeadlineMs } = this.#parts;
    if (sessions.unreadable.has(session)) return;
    queue.mute(session.slot);
    sessions.park(session, why);
    sessions.unreadable.set(session, { at: performance.now() + faultDeadlineMs, nextPage: 0 });
  }
}

function whyUnreadable(errno: number): string {
  return errno === 0 ? 'O_NONBLOCK was cleared on it' : new KernelError(-errno, 'read').message;
}
