// A folder in which the package is installed, as a user has it; and programs that run there, with deadlines.
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { milliseconds } from '../support/deadline.js';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** A temporary folder with node_modules/userfaultfd and node_modules/.bin/uffd in it; removed after the test. */
export function installedFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-docs-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules/userfaultfd'));
  symlinkSync('../userfaultfd/dist/cli/main.js', join(folder, 'node_modules/.bin/uffd'));
  // npm does this when it installs.
  chmodSync(join(root, 'dist/cli/main.js'), 0o755);
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  return folder;
}

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program with everything it starts: a process group of its own, none of which is left after the test. */
export class Program {
  readonly #child: ChildProcess;
  readonly #ended: Promise<Ended>;
  readonly #changed = new Set<() => void>();
  stdout = '';
  stderr = '';

  constructor(command: string, args: readonly string[], cwd: string, env: Record<string, string> = {}) {
    this.#child = spawn(command, args, {
      cwd,
      env: { ...environment(cwd), ...env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const pid = this.#child.pid;
    onTestFinished(() => {
      if (pid !== undefined) killGroup(pid);
    });
    for (const name of ['stdout', 'stderr'] as const) {
      this.#child[name]!.setEncoding('utf8').on('data', (text: string) => {
        this[name] += text;
        for (const check of this.#changed) check();
      });
    }
    this.#ended = new Promise((resolve, reject) => {
      this.#child.on('error', reject);
      this.#child.on('close', (status) => {
        resolve({ status, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** How it ended. @throws when it does not within that time */
  async ended(deadlineMs = 20_000): Promise<Ended> {
    return this.#orLate(this.#ended, 'did not end', deadlineMs);
  }

  /** Waits for a text on stdout. */
  async says(text: string, deadlineMs = 10_000): Promise<void> {
    const said = new Promise<void>((resolve) => {
      const check = () => {
        if (this.stdout.includes(text)) resolve();
      };
      this.#changed.add(check);
      check();
    });
    const ended = this.#ended.then(() => {
      if (!this.stdout.includes(text)) throw new Error(`ended without saying "${text}": ${this.stdout}${this.stderr}`);
    });
    await this.#orLate(Promise.race([said, ended]), `did not say "${text}"`, deadlineMs);
  }

  async #orLate<T>(promise: Promise<T>, what: string, deadlineMs: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        killGroup(this.pid);
        reject(new Error(`${this.#child.spawnargs.join(' ')}: ${what}: ${this.stdout}${this.stderr}`));
      }, milliseconds(deadlineMs));
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing of it is left.
  }
}

/** What `npm test` says about this project would lead an npm in another folder astray. */
function environment(folder: string): NodeJS.ProcessEnv {
  const aboutThisProject = /^(npm_(package|lifecycle)_|npm_config_local_prefix$|INIT_CWD$)/;
  const own = Object.entries(process.env).filter(([name]) => !aboutThisProject.test(name));
  return { ...Object.fromEntries(own), TMPDIR: folder };
}
