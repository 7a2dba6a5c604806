// Reads that would block, as the serving worker sees them: asked of fetch workers, answered into an arena both share.
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { native } from '../native/load.js';
import { Bell } from './bell.js';
import type { FetchArena, FetchCancel, FetchReply, FetchRequest } from './messages.js';
import { MAX_FILL_BYTES } from './page-filler.js';
import type { ServedRegion, Session } from './session.js';
import { Counter } from './session-counters.js';

/** Reads under way at once per serving worker; each has a place of MAX_FILL_BYTES in the arena. */
const PLACES = 8;
/** Of one session, where one fetch worker does many at once: others find places beside a slow one. */
const PLACES_OF_SESSION = 4;

export interface Fetch {
  readonly session: Session;
  readonly region: ServedRegion;
  readonly first: number;
  readonly pages: number;
  /** The page cache held the faulting page already, with content of nobody's knowing. */
  readonly cached: boolean;
  readonly place: number;
  /** Which of the ports was asked. */
  readonly port: number;
}

export class Fetches {
  readonly #ports: readonly MessagePort[];
  readonly #sourceSize: number;
  readonly #arena = new Uint8Array(new SharedArrayBuffer(PLACES * MAX_FILL_BYTES));
  readonly #cancelled = new Int32Array(new SharedArrayBuffer(PLACES * 4));
  readonly #address = native().addressOf(this.#arena);
  readonly #free = Array.from({ length: PLACES }, (_, place) => place);
  readonly #underWay = new Map<number, Fetch>();
  /**
   * Reads each fetch worker has been asked for, by any serving worker, and not answered: nothing is queued behind a read
   * that hangs while another worker is free.
   */
  readonly #asked: Int32Array;
  /** Of one session: its slow reads leave a worker to the others, where there is more than one. */
  readonly #perSession: number;
  #nextId = 0;

  /** @param asked one counter for each port, shared by all serving workers */
  constructor(ports: readonly MessagePort[], asked: SharedArrayBuffer, sourceSize: number, wakeFd: number) {
    this.#ports = ports;
    this.#sourceSize = sourceSize;
    this.#asked = new Int32Array(asked);
    this.#perSession = ports.length === 1 ? PLACES_OF_SESSION : Math.ceil(ports.length / 2);
    const shared = { arena: this.#arena.buffer, cancelled: this.#cancelled.buffer };
    for (const port of ports) port.postMessage({ ...shared, bell: Bell.given(wakeFd) } satisfies FetchArena);
  }

  /** Whether there is anybody to ask. */
  get available(): boolean {
    return this.#ports.length > 0;
  }

  get underWay(): number {
    return this.#underWay.size;
  }

  /** Whether the session could not ask for more now. */
  full(session: Session): boolean {
    return this.#free.length === 0 || session.fetchesUnderWay >= this.#perSession;
  }

  /**
   * The same for what nobody waits for: it leaves a place free for demand, where the session has more than one. A read
   * for a fault would wait for one of the others to end, and for all of them on a slow link.
   */
  fullBehindDemand(session: Session): boolean {
    return this.#free.length <= 1 || session.fetchesUnderWay >= Math.max(1, this.#perSession - 1);
  }

  /** Asks for pages of one region, at most MAX_FILL_BYTES. False when every place is taken. */
  request(session: Session, region: ServedRegion, first: number, pages: number, cached: boolean): boolean {
    if (this.full(session)) return false;
    const place = this.#free.pop()!;
    const id = this.#nextId++;
    const port = this.#leastAsked();
    this.#underWay.set(id, { session, region, first, pages, cached, place, port });
    session.fetchesUnderWay++;
    session.counters[Counter.fetches]!++;
    const length = pages * session.pageSize;
    const offset = session.offsetOf(region, first);
    const available = Math.min(length, this.#sourceSize - offset);
    const arenaOffset = place * MAX_FILL_BYTES;
    if (available < length) this.#arena.fill(0, arenaOffset + available, arenaOffset + length);
    const request: FetchRequest = { id, place, arenaOffset, length: available, offset };
    this.#ports[port]!.postMessage(request);
    return true;
  }

  /** The port that has been asked for least, with one more. Other serving workers look for theirs at the same time. */
  #leastAsked(): number {
    for (;;) {
      const least = Math.min(...this.#asked);
      const port = this.#asked.indexOf(least);
      if (port >= 0 && Atomics.compareExchange(this.#asked, port, least, least + 1) === least) return port;
    }
  }

  /**
   * What the session has asked for, or only what has that page, is read for nobody. The places stay taken until the replies
   * come.
   */
  cancel(session: Session, page = -1): void {
    if (session.fetchesUnderWay === 0) return;
    for (const [id, fetch] of this.#underWay) {
      if (fetch.session !== session) continue;
      if (page >= 0 && (page < fetch.first || page >= fetch.first + fetch.pages)) continue;
      // For a worker that is busy, which sees it before it begins; for one that waits, the message.
      Atomics.store(this.#cancelled, fetch.place, id + 1);
      this.#ports[fetch.port]!.postMessage({ cancel: id } satisfies FetchCancel);
    }
  }

  /** Whether a fetch under way covers the page. */
  covers(session: Session, page: number): boolean {
    for (const fetch of this.#underWay.values()) {
      if (fetch.session === session && page >= fetch.first && page < fetch.first + fetch.pages) return true;
    }
    return false;
  }

  /** Every reply that has come. The place of each stays taken until `release`. */
  *replies(): Generator<{ fetch: Fetch; address: number; error: string | undefined; sourceChanged: boolean }> {
    for (const port of this.#ports) {
      let received;
      while ((received = receiveMessageOnPort(port)) !== undefined) {
        const reply = received.message as FetchReply;
        const fetch = this.#underWay.get(reply.id);
        if (fetch === undefined) continue;
        this.#underWay.delete(reply.id);
        Atomics.sub(this.#asked, fetch.port, 1);
        fetch.session.fetchesUnderWay--;
        const address = this.#address + fetch.place * MAX_FILL_BYTES;
        yield { fetch, address, error: reply.error, sourceChanged: reply.sourceChanged ?? false };
      }
    }
  }

  /** The bytes of a fetch are no longer needed: its answers have been given. */
  release(fetch: Fetch): void {
    this.#free.push(fetch.place);
  }

  close(): void {
    for (const port of this.#ports) port.close();
  }
}
