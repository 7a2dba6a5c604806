// The server under test: `uffd serve` as a process, as its users start it. The command line starts it for us.

/** A running `uffd serve`. */
export interface ServeProcess extends AsyncDisposable {
  readonly pid: number;
  /** From starting the process to its listening at every socket. */
  readonly startSeconds: number;
}

/** Starts `uffd serve` with these arguments, and resolves when it listens. */
export type StartServe = (args: readonly string[]) => Promise<ServeProcess>;
