// The processes that `uffd demo` and `uffd bench serve` start: this program again, ended by the end of their standard
// input whatever ends us.
import { type ChildProcess, spawn } from 'node:child_process';
import { addAbortListener, once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('./main.js', import.meta.url));
const KILL_MS = 5000;

export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #exited: Promise<number>;
  /** Every JSON object it has printed. */
  readonly printed: Record<string, unknown>[] = [];
  readonly #waiting = new Set<() => void>();

  /** @param signal ends the child */
  constructor(args: readonly string[], signal: AbortSignal) {
    this.#process = spawn(process.execPath, [main, ...args, '--json', '--exit-on-stdin-close'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process.stdin?.on('error', () => undefined);
    this.#exited = once(this.#process, 'close').then(([code]) => (code as number | null) ?? 1);
    const listener = addAbortListener(signal, () => {
      void this.end();
    });
    void this.#exited.then(() => {
      listener[Symbol.dispose]();
      this.#notify();
    });
    createInterface({ input: this.#process.stdout! }).on('line', (line) => {
      this.printed.push(JSON.parse(line) as Record<string, unknown>);
      this.#notify();
    });
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  /** The first object printed with that event, or undefined when the child has exited or the time is over. */
  async event(name: string, timeoutMs: number): Promise<Record<string, unknown> | undefined> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (;;) {
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

  /** Its exit status. */
  exited(): Promise<number> {
    return this.#exited;
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
