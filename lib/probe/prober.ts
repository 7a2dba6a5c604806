// The process that asks: a probe may hang it, kill it or leave it unusable, and then there is another one.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { UffdError } from '../errors.js';
import type { Finding } from './probe.js';

const script = fileURLToPath(new URL('./prober-process.js', import.meta.url));
const START_MS = 30_000;
const STDERR_BYTES = 2000;
/** Within it the process starts on a machine that is not slow; an emulated one may take twenty times as long. */
const USUAL_START_MS = 200;
const MOST_PATIENCE = 20;

export interface Question {
  /** The id of the probe. */
  readonly ask: string;
  readonly patience: number;
}

export type ProberMessage = { readonly ready: true } | { readonly finding: Finding };

/** How the process ended instead of answering. */
export type Lost = { readonly lost: 'deadline' } | { readonly lost: 'exit'; readonly how: string };

export class Prober {
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;
  #stderr = '';
  #patience = 1;

  private constructor() {
    this.#process = fork(script, { execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    // `exit`, not `close`: a grandchild may hold the pipe for longer.
    this.#exited = once(this.#process, 'exit').catch(() => undefined);
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_BYTES);
    });
  }

  /** @throws UffdError ERR_WORKER_FAILED when the process does not start */
  static async start(signal?: AbortSignal): Promise<Prober> {
    const began = performance.now();
    const prober = new Prober();
    let answer: ProberMessage | Lost;
    try {
      answer = await prober.#next(START_MS, signal);
    } catch (error) {
      await prober.end();
      throw error;
    }
    if ('ready' in answer) {
      prober.#patience = Math.min(Math.max((performance.now() - began) / USUAL_START_MS, 1), MOST_PATIENCE);
      return prober;
    }
    await prober.end();
    const how = 'lost' in answer && answer.lost === 'exit' ? answer.how : 'it did not answer';
    throw new UffdError('ERR_WORKER_FAILED', `the process that probes could not be started: ${how}`);
  }

  /** Of the process. */
  get pid(): number | undefined {
    return this.#process.pid;
  }

  /**
   * What the probe found, or how the process ended instead. The deadline, and whatever the probe waits for, is for a machine
   * that is not slow: how long the process took to start says how many times longer to wait here.
   */
  async ask(id: string, deadlineMs: number, signal?: AbortSignal): Promise<Finding | Lost> {
    const question: Question = { ask: id, patience: this.#patience };
    this.#process.send(question, () => undefined);
    const answer = await this.#next(deadlineMs * this.#patience, signal);
    return 'finding' in answer ? answer.finding : (answer as Lost);
  }

  /** Idempotent; resolves when the process is gone. */
  async end(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#exited;
  }

  /** The next message, or how the process was lost. @throws the reason of the signal */
  async #next(deadlineMs: number, signal?: AbortSignal): Promise<ProberMessage | Lost> {
    const { exitCode, signalCode } = this.#process;
    // Killed between two questions: its exit has been told already.
    if (exitCode !== null || signalCode !== null) return { lost: 'exit', how: this.#describe(exitCode, signalCode) };
    const done = new AbortController();
    const aborted = signal === undefined ? done.signal : AbortSignal.any([done.signal, signal]);
    const timer = setTimeout(() => {
      done.abort('deadline');
    }, deadlineMs);
    try {
      const message = once(this.#process, 'message', { signal: aborted }).then(([message]) => message as ProberMessage);
      const exit = once(this.#process, 'exit', { signal: aborted }).then(([code, by]) => ({
        lost: 'exit' as const,
        how: this.#describe(code as number | null, by as string | null),
      }));
      // The loser of the race is aborted below.
      for (const promise of [message, exit]) promise.catch(() => undefined);
      return await Promise.race([message, exit]);
    } catch (error) {
      signal?.throwIfAborted();
      if (done.signal.aborted) return { lost: 'deadline' };
      throw error;
    } finally {
      clearTimeout(timer);
      done.abort('done');
    }
  }

  #describe(code: number | null, by: string | null): string {
    const line =
      this.#stderr
        .trim()
        .split('\n')
        .find((text) => text.includes('Error')) ?? '';
    return `${by === null ? `exit status ${code ?? 'unknown'}` : `killed by ${by}`}${line && `: ${line}`}`;
  }
}
