// Which pages of a source were asked for, one byte each, in memory that all serving workers and the main thread share.

/** Parts of a source: first page and number of pages of each, ascending and apart. */
export interface WorkingSet {
  readonly pageSize: number;
  readonly extents: Float64Array;
}

const HEADER_BYTES = 8;
const [PAGE_SIZE, CHANGES] = [0, 1];

export class WorkingSetRecorder {
  readonly shared: SharedArrayBuffer;
  readonly #header: Int32Array;
  readonly #asked: Uint8Array;

  /** @param shared of the recorder whose memory this one is to share */
  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#header = new Int32Array(shared, 0, 2);
    this.#asked = new Uint8Array(shared, HEADER_BYTES);
  }

  /** @param earlier is added to what is recorded */
  static create(sourceSizeBytes: number, basePageSize: number, earlier?: WorkingSet): WorkingSetRecorder {
    const pages = Math.ceil(sourceSizeBytes / basePageSize);
    const recorder = new WorkingSetRecorder(new SharedArrayBuffer(HEADER_BYTES + pages));
    if (earlier !== undefined) {
      recorder.takes(earlier.pageSize);
      for (let i = 0; i < earlier.extents.length; i += 2) recorder.asked(earlier.extents[i]!, earlier.extents[i + 1]!);
    }
    return recorder;
  }

  /** Whether pages of that size are recorded: the first size that is asked about is the one. */
  takes(pageSize: number): boolean {
    const before = Atomics.compareExchange(this.#header, PAGE_SIZE, 0, pageSize);
    return before === 0 || before === pageSize;
  }

  /** Pages of the source were asked for. */
  asked(first: number, pages: number): void {
    this.#asked.fill(1, first, first + pages);
    Atomics.add(this.#header, CHANGES, 1);
  }

  /** Is another number when something has been recorded since. */
  get changes(): number {
    return Atomics.load(this.#header, CHANGES);
  }

  /** What has been recorded; undefined as long as no session has come. */
  workingSet(): WorkingSet | undefined {
    const pageSize = Atomics.load(this.#header, PAGE_SIZE);
    if (pageSize === 0) return undefined;
    const extents: number[] = [];
    for (let first = this.#asked.indexOf(1); first >= 0;) {
      const after = this.#asked.indexOf(0, first);
      const end = after < 0 ? this.#asked.length : after;
      extents.push(first, end - first);
      first = this.#asked.indexOf(1, end);
    }
    return { pageSize, extents: Float64Array.from(extents) };
  }
}
