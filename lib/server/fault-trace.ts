// The faults as they came, in a ring that a serving worker writes and the main thread empties.

const ROWS = 1 << 16;
const FIELDS = 4;
const HEADER_BYTES = 8;

/** A message of a fault, as `FaultServer.takeTrace` gives it. */
export interface TracedFault {
  /** performance.timeOrigin + performance.now() when its message was read. */
  readonly timeMs: number;
  readonly session: number;
  /** Page of the session: those of all its mappings, numbered through; -1 in none of them. */
  readonly page: number;
  readonly write: boolean;
  readonly minor: boolean;
}

export class FaultTrace {
  readonly shared: SharedArrayBuffer;
  /** Rows ever written, modulo 2^32; written last. */
  readonly #written: Int32Array;
  readonly #rows: Float64Array;
  #taken = 0;
  #now = 0;

  constructor(shared = new SharedArrayBuffer(HEADER_BYTES + ROWS * FIELDS * 8)) {
    this.shared = shared;
    this.#written = new Int32Array(shared, 0, 1);
    this.#rows = new Float64Array(shared, HEADER_BYTES);
  }

  /** The time of the faults that are added from now on. */
  read(): void {
    this.#now = performance.timeOrigin + performance.now();
  }

  add(session: number, page: number, flags: number): void {
    const written = this.#written[0]!;
    const at = (written & (ROWS - 1)) * FIELDS;
    this.#rows[at] = this.#now;
    this.#rows[at + 1] = session;
    this.#rows[at + 2] = page;
    this.#rows[at + 3] = flags;
    Atomics.store(this.#written, 0, (written + 1) | 0);
  }

  /** What has been added since the last time, and how many faults came too fast to be kept. */
  take(): { faults: TracedFault[]; lost: number } {
    const count = (Atomics.load(this.#written, 0) - this.#taken) >>> 0;
    const first = this.#taken + Math.max(0, count - ROWS);
    const faults = Array.from({ length: Math.min(count, ROWS) }, (_, i) => this.#fault(first + i));
    this.#taken = (this.#taken + count) | 0;
    // Written over while they were being read: the oldest ones.
    const since = (Atomics.load(this.#written, 0) - this.#taken) >>> 0;
    const overwritten = Math.min(faults.length, Math.max(0, since + faults.length - ROWS));
    return { faults: faults.slice(overwritten), lost: Math.max(0, count - ROWS) + overwritten };
  }

  #fault(row: number): TracedFault {
    const at = (row & (ROWS - 1)) * FIELDS;
    const [timeMs = 0, session = 0, page = 0, flags = 0] = this.#rows.subarray(at, at + FIELDS);
    return { timeMs, session, page, write: (flags & 1) !== 0, minor: (flags & 4) !== 0 };
  }
}
