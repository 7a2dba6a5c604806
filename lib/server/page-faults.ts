// The messages of page faults: whose page each is for, and what is asked again because an answer fell short.
import { messageOf } from '../errors.js';
import type { FaultDecider } from './fault-decider.js';
import type { FaultTrace } from './fault-trace.js';
import type { OtherEvents } from './other-events.js';
import type { ServedRegion, Session } from './session.js';
import { Counter } from './session-counters.js';
import type { Sessions } from './sessions.js';
import type { Settling } from './settling.js';

const MINOR_FLAG = 4;
/** Of one session, more than a client that waits for each can have; one that jumps out of its faults has no end of them. */
const MOST_WAITING = 2 ** 17;
const MOST_STRAYS = 1024;

export interface PageFaultsParts {
  readonly sessions: Sessions;
  readonly otherEvents: OtherEvents;
  readonly decider: FaultDecider;
  readonly settling: Settling;
  readonly trace: FaultTrace | undefined;
  readonly faultDeadlineMs: number;
}

export class PageFaults {
  readonly #parts: PageFaultsParts;
  #any = false;

  constructor(parts: PageFaultsParts) {
    this.#parts = parts;
  }

  /** Whether any have come since this was last asked. */
  anySince(): boolean {
    const any = this.#any;
    this.#any = false;
    return any;
  }

  take(session: Session, address: number, flags: number): void {
    session.counters[Counter.faults]!++;
    this.#any = true;
    const region = session.regionAt(address);
    if (this.#parts.trace !== undefined) this.#note(this.#parts.trace, session, region, address, flags);
    if (region === undefined) {
      this.#takeStray(session, address);
      return;
    }
    const page = pageAt(session, region, address);
    const { faultDeadlineMs, otherEvents } = this.#parts;
    if (session.waiting.size >= MOST_WAITING) otherEvents.unreadable(session, 'too many faults wait for an answer');
    if (session.parked !== undefined) session.wait(page, session.parked, faultDeadlineMs);
    else this.#decide(session, region, page, flags, false);
  }

  #takeStray(session: Session, address: number): void {
    const { sessions, otherEvents, faultDeadlineMs } = this.#parts;
    const reason = `a fault at 0x${address.toString(16)}, which is in no mapping of the handshake`;
    sessions.park(session, reason);
    session.stray(address - (address % session.pageSize), reason, faultDeadlineMs);
    if (session.strays.size >= MOST_STRAYS) otherEvents.unreadable(session, 'too many faults in no mapping');
  }

  #note(trace: FaultTrace, session: Session, region: ServedRegion | undefined, address: number, flags: number): void {
    trace.add(session.id, region === undefined ? -1 : pageAt(session, region, address), flags);
  }

  /** Decides again about pages whose answers fell short. */
  retry(): void {
    const { settling, sessions } = this.#parts;
    if (settling.retries.length === 0) return;
    for (const { session, page, minor } of settling.retries.splice(0)) {
      if (!sessions.has(session) || session.parked !== undefined) continue;
      this.#decide(session, session.regionOfPage(page), page, minor ? MINOR_FLAG : 0, true);
    }
  }

  /** User code runs in here, a policy or a source: what it throws is the failure of one page, not of the server. */
  #decide(session: Session, region: ServedRegion, page: number, flags: number, narrow: boolean): void {
    try {
      this.#parts.decider.decide(session, region, page, flags, narrow);
    } catch (error) {
      session.leaveToDeadline(page, messageOf(error), this.#parts.faultDeadlineMs, true);
    }
  }
}

function pageAt(session: Session, region: ServedRegion, address: number): number {
  return region.firstPage + Math.floor((address - region.start) / session.pageSize);
}
