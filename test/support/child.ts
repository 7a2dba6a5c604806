// Scripts in a process of their own, with a deadline: what they leave behind or die of does not touch the tests.
import { spawn } from 'node:child_process';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { milliseconds } from './deadline.js';

export interface ChildResult {
  readonly status: number | null;
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * The address sanitizer stops all threads to look for leaks, and waits for ever for one that no signal reaches: in a page
 * fault that KVM emulates, in munmap(2) whose event nobody reads.
 */
export const withoutLeakCheck = { ASAN_OPTIONS: `${process.env['ASAN_OPTIONS'] ?? ''}:detect_leaks=0` };

export interface ChildOptions {
  readonly deadlineMs?: number;
  /** Options for node itself, such as `--expose-gc`. */
  readonly nodeOptions?: readonly string[];
  /** In addition to this process's. */
  readonly env?: Readonly<Record<string, string>>;
}

export async function runProgram(
  command: string,
  args: readonly string[],
  deadlineMs = 8000,
  env: Readonly<Record<string, string>> = {},
): Promise<ChildResult> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => (output[name] += text));
  }
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, milliseconds(deadlineMs));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, timedOut, ...output });
    });
  });
}

/** Runs a script with this Node. */
export function runScript(script: URL, args: readonly string[] = [], options: ChildOptions = {}): Promise<ChildResult> {
  const { deadlineMs, nodeOptions = [], env } = options;
  return runProgram(process.execPath, [...nodeOptions, fileURLToPath(script), ...args], deadlineMs, env);
}

/** Exit status 0, no signal, in time. Returns what it printed. */
export function expectCleanExit(result: ChildResult): string {
  const { status, signal, timedOut, stderr } = result;
  expect({ status, signal, timedOut }, stderr).toEqual({ status: 0, signal: null, timedOut: false });
  return result.stdout;
}
