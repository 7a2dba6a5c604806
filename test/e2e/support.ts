// Commands of the package as processes, each with a deadline, and the C programs that misbehave.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll } from 'vitest';
import { milliseconds } from '../support/deadline.js';
import { compiled as compiledProgram } from '../support/programs.js';

const root = join(import.meta.dirname, '../..');
export const mainScript = join(root, 'dist/cli/main.js');

/** A folder for one test file, removed after it. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-e2e-'));
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** A file in which every byte of page i is i modulo 250, plus 1: no page is zero, and none is its neighbour. */
export function patternFile(folder: string, pages: number, name = 'snapshot'): string {
  const bytes = Buffer.alloc(pages * 4096);
  for (let page = 0; page < pages; page++) bytes.fill(patternOf(page), page * 4096, (page + 1) * 4096);
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

export function patternOf(page: number): number {
  return (page % 250) + 1;
}

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface RunOptions {
  readonly uid?: number;
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs a program to its end, or SIGKILLs it at the deadline (then `code` is null). */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const started = performance.now();
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: milliseconds(options.timeoutMs ?? 20_000),
    killSignal: 'SIGKILL',
    ...(options.env !== undefined && { env: options.env }),
    ...(options.uid !== undefined && { uid: options.uid, gid: options.uid }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve({ code, signal, stdout, stderr, seconds: (performance.now() - started) / 1000 });
    });
  });
}

/** Runs `uffd` with these arguments. */
export function uffd(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return run(process.execPath, [mainScript, ...args], options);
}

type Event = { event: string } & Record<string, unknown>;

/** A process that prints JSON lines: `uffd serve --json`. */
export class Serve {
  readonly process: ChildProcess;
  readonly socket: string;
  readonly events: Event[] = [];
  stderr = '';
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #listeners = new Set<() => void>();

  private constructor(socket: string, args: readonly string[]) {
    this.socket = socket;
    this.process = spawn(process.execPath, [mainScript, 'serve', '--json', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stderr?.on('data', (data: Buffer) => (this.stderr += data.toString()));
    this.exited = new Promise((resolve) => {
      this.process.on('close', (code, signal) => {
        resolve({ code, signal });
        this.#notify();
      });
    });
    createInterface({ input: this.process.stdout! }).on('line', (line) => {
      this.events.push(JSON.parse(line) as Event);
      this.#notify();
    });
    afterAll(() => this.process.kill('SIGKILL'));
  }

  static async start(file: string, socket: string, ...args: string[]): Promise<Serve> {
    const serve = new Serve(socket, [file, '--socket', socket, ...args]);
    await serve.event('listening');
    return serve;
  }

  /** Several `socket=file`. */
  static async startPairs(pairs: readonly string[], ...args: string[]): Promise<Serve> {
    const serve = new Serve(pairs[0]!.split('=')[0]!, [...pairs.flatMap((pair) => ['--socket', pair]), ...args]);
    await serve.event('listening');
    return serve;
  }

  /** The next event of that kind (and session); an error at the deadline. */
  async event(name: string, match: Record<string, unknown> = {}, timeoutMs = 10_000): Promise<Event> {
    const deadline = performance.now() + milliseconds(timeoutMs);
    for (;;) {
      const found = this.events.find(
        (event) => event.event === name && Object.entries(match).every(([key, value]) => event[key] === value),
      );
      if (found !== undefined) return found;
      const left = deadline - performance.now();
      if (left <= 0 || this.process.exitCode !== null) {
        throw new Error(
          `no event ${name} ${JSON.stringify(match)}; seen: ${JSON.stringify(this.events)} ${this.stderr}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#listeners.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** SIGTERM, then its exit status. */
  async stop(): Promise<number | null> {
    this.kill('SIGTERM');
    return (await this.exited).code;
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }
}

/** A C program of this folder. */
export function compiled(name: string): string {
  return compiledProgram(join(import.meta.dirname, name));
}

/** The words a hostile client printed: `page 3 4` becomes `['page 3', 4]`. */
export function touches(stdout: string, what: 'page' | 'again'): number[] {
  return [...stdout.matchAll(new RegExp(`^${what} \\d+ (-?\\d+)$`, 'gm'))].map(([, value]) => Number(value));
}

/** Open descriptors and mappings of a process. */
export function resourcesOf(pid: number): { descriptors: number; mappings: number } {
  const count = (command: string) => Number(execFileSync('sh', ['-c', command]).toString());
  return {
    descriptors: count(`ls /proc/${pid}/fd | wc -l`),
    mappings: count(`wc -l < /proc/${pid}/maps`),
  };
}

export async function until(condition: () => boolean, timeoutMs = 5000): Promise<void> {
  const deadline = performance.now() + milliseconds(timeoutMs);
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
