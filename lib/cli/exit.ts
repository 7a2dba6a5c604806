// How commands end: exit codes, the one line on stderr, and what makes them end early.

/** 0 done, 1 failed, 2 wrong usage. */
export const ExitCode = { ok: 0, failed: 1, usage: 2 } as const;

/** Calls back once when this process should end: SIGINT, SIGTERM, or the end of standard input if that is watched. */
export function onStopRequest(stop: (why: string) => void, watchStdin: boolean): () => void {
  const sigint = () => {
    stop('SIGINT');
  };
  const sigterm = () => {
    stop('SIGTERM');
  };
  const ended = () => {
    stop('the end of standard input');
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
