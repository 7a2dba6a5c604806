// How commands end: exit codes, the one line on stderr, and what makes them end early.
import { native } from '../native/load.js';

/** 0 done, 1 failed, 2 wrong usage. */
export const ExitCode = { ok: 0, failed: 1, usage: 2 } as const;

/** How long the end of a process may take: more than its workers are given. */
const END_MS = 15_000;

/** The process is at its end, and has that long for it: a thread may not return from a file system that is dead. */
export function endInTime(status: number): void {
  process.exitCode = status;
  native().exitWithin(END_MS, status);
}

/** Ctrl-C reaches us twice when npm passes on what the terminal sent to us already: one request, not two. */
const SAME_REQUEST_MS = 300;

/**
 * Calls back when this process should end: SIGINT, SIGTERM, or the end of standard input if that is watched.
 * @returns stops listening
 */
export function onStopRequest(stop: (why: string) => void, watchStdin: boolean): () => void {
  let last = -Infinity;
  const request = (why: string) => {
    const now = performance.now();
    if (now - last > SAME_REQUEST_MS) stop(why);
    last = now;
  };
  const sigint = () => {
    request('SIGINT');
  };
  const sigterm = () => {
    request('SIGTERM');
  };
  const ended = () => {
    request('the end of standard input');
  };
  process.on('SIGINT', sigint);
  process.on('SIGTERM', sigterm);
  if (watchStdin) {
    process.stdin.resume();
    process.stdin.on('close', ended);
    // A parent that is killed closes its end of the pipe: the sign that reaches us whatever killed it.
    process.stdin.unref();
  }
  return () => {
    process.off('SIGINT', sigint);
    process.off('SIGTERM', sigterm);
    process.stdin.off('close', ended);
  };
}
