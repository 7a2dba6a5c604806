// The processes that `uffd demo`, `uffd bench serve` and `uffd vmm restore` start: this program again, ended by the end
// of their standard input whatever ends us.
import { type ChildProcess, spawn } from 'node:child_process';
import { addAbortListener } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../errors.js';

const main = fileURLToPath(new URL('./main.js', import.meta.url));
const KILL_MS = 5000;

export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #exited: Promise<number>;
  #failure: Error | undefined;
  /** Every JSON object it has printed. */
  readonly printed: Record<string, unknown>[] = [];
  readonly #waiting = new Set<() => void>();

  /** @param signal ends the child */
  constructor(args: readonly string[], signal: AbortSignal) {
    this.#process = spawn(process.execPath, [main, ...args, '--json', '--exit-on-stdin-close'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process.stdin?.on('error', () => undefined);
    this.#exited = new Promise((resolve) => {
      this.#process.once('close', (code) => {
        resolve(code ?? 1);
      });
      // There is no process: the limit of them, or of open files, is reached (EAGAIN, EMFILE).
      this.#process.once('error', (error) => {
        this.#failure = new Error(`a second process cannot be started: ${messageOf(error)}`, { cause: error });
        resolve(1);
      });
    });
    const listener = addAbortListener(signal, () => {
      void this.end();
    });
    void this.#exited.then(() => {
      listener[Symbol.dispose]();
      this.#notify();
    });
    // Without open files to be had there are no streams either.
    const { stdout } = this.#process as { stdout?: Readable | null };
    if (stdout == undefined) return;
    createInterface({ input: stdout }).on('line', (line) => {
      this.printed.push(JSON.parse(line) as Record<string, unknown>);
      this.#notify();
    });
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  /**
   * The first object printed with that event, or undefined when the child has exited or the time is over.
   * @throws Error when it could not be started
   */
  async event(name: string, timeoutMs: number): Promise<Record<string, unknown> | undefined> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const found = this.printed.find((one) => one['event'] === name);
      const { exitCode, signalCode } = this.#process;
      if (found !== undefined || deadline.aborted || exitCode !== null || signalCode !== null) return found;
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve);
        deadline.addEventListener('abort', () => {
          resolve();
        });
      });
    }
  }

  /** Its exit status. @throws Error when it could not be started */
  async exited(): Promise<number> {
    const status = await this.#exited;
    if (this.#failure !== undefined) throw this.#failure;
    return status;
  }

  /** SIGTERM, and SIGKILL if that does not do. */
  async end(): Promise<number> {
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), KILL_MS);
    const code = await this.#exited;
    clearTimeout(timer);
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  #notify(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
