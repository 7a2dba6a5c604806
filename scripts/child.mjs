// Starts other programs, each in a process group of its own: one that is interrupted or overdue
// goes together with everything it started (npm, make and the compilers under them).

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import process from 'node:process';

const running = new Set();

/**
 * Resolves to `{ status, stdout, output }`. `output` is stdout and stderr as they came; both are ''
 * with `inherit`, where the child writes to this process's own. `status` is null after a signal.
 */
export function runChild(command, args, { cwd, env, timeoutMs, inherit = false } = {}) {
  return new Promise((resolve, reject) => {
    const stdio = inherit ? ['ignore', 'inherit', 'inherit'] : ['ignore', 'pipe', 'pipe'];
    const child = spawn(command, args, { cwd, env, stdio, detached: true });
    const release = hold(child, timeoutMs);
    const stdout = [];
    const output = [];
    child.stdout?.on('data', (chunk) => stdout.push(chunk) && output.push(chunk));
    child.stderr?.on('data', (chunk) => output.push(chunk));
    child.on('error', (error) => {
      release();
      reject(error);
    });
    child.on('close', (status) => {
      release();
      const text = (chunks) => Buffer.concat(chunks).toString();
      resolve({ status, stdout: text(stdout), output: text(output) });
    });
  });
}

// Signals are ours only while a child runs: a program imported later must find them untouched.
function hold(child, timeoutMs) {
  if (running.size === 0) for (const signal of signals) process.on(signal, passOn);
  running.add(child);
  const overdue = timeoutMs && setTimeout(() => endGroup(child, 'SIGKILL'), timeoutMs);
  return () => {
    clearTimeout(overdue);
    running.delete(child);
    if (running.size === 0) for (const signal of signals) process.removeListener(signal, passOn);
  };
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];

function passOn(signal) {
  for (const child of running) endGroup(child, 'SIGTERM');
  // An exit, not the signal itself: what is to be cleaned up hangs on it.
  process.exit(128 + constants.signals[signal]);
}

function endGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Already gone.
  }
}
