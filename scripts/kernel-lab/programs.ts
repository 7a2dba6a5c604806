// Other programs, each with a deadline, and ended when the lab is.
import { spawn } from 'node:child_process';

export interface ProgramOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
  /** Given every piece of its output as it comes. */
  readonly onOutput?: (text: string) => void;
}

export interface Finished {
  readonly status: number | null;
  readonly timedOut: boolean;
  readonly stdout: string;
  /** stdout and stderr, as they came. */
  readonly output: string;
}

/** A step of the lab could not be done; the message is for the user. */
export class LabError extends Error {}

const DEADLINE_MS = 10 * 60_000;

/** Resolves however it ends. @throws when it does not start, or the reason of `signal` */
export async function run(program: string, args: readonly string[], options: ProgramOptions): Promise<Finished> {
  const { cwd, env, timeoutMs = DEADLINE_MS, signal, onOutput } = options;
  signal.throwIfAborted();
  // Its own group, so that a make goes with all of its compilers; and the end of the lab, however it ends, is its end.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    ...(cwd !== undefined && { cwd }),
    ...(env !== undefined && { env: { ...process.env, ...env } }),
  });
  const endGroup = () => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // Already gone.
    }
  };
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    endGroup();
  }, timeoutMs);
  signal.addEventListener('abort', endGroup);
  try {
    const [stdout, output]: [string[], string[]] = [[], []];
    const take = (text: string) => {
      output.push(text);
      onOutput?.(text);
    };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout.push(text);
      take(text);
    });
    child.stderr.setEncoding('utf8').on('data', take);
    const status = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    signal.throwIfAborted();
    return { status, timedOut, stdout: stdout.join(''), output: output.join('') };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', endGroup);
  }
}

/** What it printed. @throws LabError with the end of its output when it fails */
export async function succeed(program: string, args: readonly string[], options: ProgramOptions): Promise<string> {
  const { status, timedOut, stdout, output } = await run(program, args, options);
  if (status === 0) return stdout;
  const tail = output.trimEnd().split('\n').slice(-15).join('\n');
  throw new LabError(`${program} ${args[0] ?? ''} ${timedOut ? 'took too long' : 'failed'}:\n${tail}`);
}
