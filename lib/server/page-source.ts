// Where page bytes come from: the interface the server knows, never a concrete source.

/**
 * A source of page bytes. `readNow` runs in the serving worker, between a fault and its answer: it must neither block
 * nor wait. `read` runs in a fetch worker, or on the thread that made the server for a source given as an object, and
 * may take as long as it needs. A source has at least one of them.
 */
export interface PageSource {
  /** Fills `length` bytes of `target` at `targetOffset` with those at `offset`. False when that would block. */
  readNow?(target: Uint8Array, targetOffset: number, length: number, offset: number): boolean;
  /**
   * The same, when it is ready; rejects when the bytes cannot be had. Bytes of a changed source are an error. Once
   * `signal` is aborted nobody wants them any more: a source that looks at it saves the work. Nothing is written to
   * `target` after it has settled.
   */
  read?(
    target: Uint8Array,
    targetOffset: number,
    length: number,
    offset: number,
    signal: AbortSignal,
  ): Promise<void> | void;
  /**
   * Whether what was read is still what the source was when it was opened; asked after reading, before any page becomes
   * visible. Default: yes.
   */
  unchanged?(): boolean;
  /**
   * @internal Instead of `readNow`: where bytes lie in this process that cannot change for as long as `held` says so; 0
   * when there is no such place now. Never loaded from by this process, only by the kernel on its behalf.
   */
  addressNow?(length: number, offset: number): number;
  /** @internal Asked after `addressNow`, before the answers are given. False: those answers must not be given. */
  held?(): boolean;
  /**
   * @internal Sets `extent` to bytes of one kind around the page at `offset`, whole pages from there on in both directions.
   * True when they are zeroes, which is known without reading them. Only there when the source has such bytes.
   */
  extentOf?(offset: number, pageSize: number, extent: SourceExtent): boolean;
  /** Called about four times a second, between answers. */
  tick?(): void;
  /** The worker ends: release what was opened. */
  close?(): void;
}

/** Bytes of the source, from `start` up to `end`. */
export interface SourceExtent {
  start: number;
  end: number;
}

/** A module of user code that workers import. */
export interface ModuleReference {
  /** `new URL('./my-source.js', import.meta.url)`, or such a URL as text. */
  readonly module: URL | string;
  /** Passed to the module's function; must be cloneable. */
  readonly data?: unknown;
}

/** The reference as it can travel to a worker: a URL object cannot. */
export function portable(reference: ModuleReference): ModuleReference {
  return { ...reference, module: String(reference.module) };
}

/** What `FaultServer` is given: made by fileSource, httpSource, moduleSource or objectSource. */
export interface SourceSpec {
  /** Bytes. A last page that is not full is filled up with zeroes. */
  readonly sizeBytes: number;
  /**
   * Exports `openSource(data, where): PageSource | Promise<PageSource>`; opened once in each worker that uses it, `where`
   * being `serving` (for `readNow`) or `fetching` (for `read`).
   */
  readonly module?: ModuleReference;
  /** Where the module is opened: `readNow` needs `serving`, `read` needs `fetching`. */
  readonly runsIn?: 'serving' | 'fetching' | 'both';
  /** Threads for `read`: more than one where reads block. */
  readonly fetchWorkers?: number;
  /** The most bytes that somebody waits for are read at once, where less comes sooner. Default: all that comes along. */
  readonly demandBytes?: number;
  /**
   * @internal The most bytes that are read at once to complete a session: where what somebody waits for comes behind them
   * over one slow connection. Default: 2 MiB.
   */
  readonly backgroundBytes?: number;
  /** A source on the thread that made the server. */
  readonly object?: PageSource;
  /** Something its user should know. */
  readonly warning?: string;
  /** Called when the server is closed. */
  readonly close?: () => void;
}
