// The process that touches, as the benchmark sees it: asked for a run, answers with its times.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { UffdError } from '../../errors.js';
import type { Touched } from './touched-pages.js';

export interface ClientRun {
  readonly socket: string;
  readonly memory: 'anonymous' | 'memfd';
  readonly sizeBytes: number;
  readonly touched: Touched;
  readonly threads: number;
  /** At once, each with memory of its own. Default 1. */
  readonly sessions?: number;
  /** The file whose content it should find: some of the touched pages are compared. */
  readonly snapshot: string;
}

export interface ClientTimes {
  /** Of each session, from the sending of its descriptors to its last touch. */
  readonly seconds: readonly number[];
  /** Of all touches of the first session. */
  readonly p99Us: number;
}

export type ClientReply = ClientTimes | { readonly error: string };

/** A process of its own: touches served memory when it is asked to. */
export class TouchingClient implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #signal: AbortSignal;

  /** @param signal ends it */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
    this.#child = fork(new URL('./client-child.js', import.meta.url));
  }

  async run(run: ClientRun): Promise<ClientTimes> {
    this.#signal.throwIfAborted();
    this.#child.send(run);
    const reply = await messageOf<ClientReply>(this.#child, this.#signal);
    if ('error' in reply) throw new UffdError('ERR_SERVER_GONE', `the touching client failed: ${reply.error}`);
    return reply;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await ended(this.#child);
  }
}

const END_MS = 5000;

/** The next message of a child, or an error when it ends without one. */
export async function messageOf<T>(child: ChildProcess, signal: AbortSignal): Promise<T> {
  const over = new AbortController();
  const until = { signal: AbortSignal.any([signal, over.signal]) };
  const gone = once(child, 'exit', until).then(([code]) => {
    throw new UffdError('ERR_SERVER_GONE', `a process of the benchmark has ended (${String(code)})`);
  });
  try {
    const [message] = (await Promise.race([once(child, 'message', until), gone])) as [T];
    return message;
  } finally {
    gone.catch(() => undefined);
    over.abort();
  }
}

/** Tells a child that its parent is done with it, and waits; one that does not end is killed. */
export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
  await exited;
  clearTimeout(timer);
}
