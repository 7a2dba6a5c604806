// Deadlines: nothing in a test waits longer than this for the kernel, so a server that answers nothing fails the test.
import { setMaxListeners } from 'node:events';
import process from 'node:process';

/** Instrumented code (scripts/sanitize.mjs) is several times slower; an emulated machine says so itself. */
const slower = Number(process.env['UFFD_TEST_SLOWER'] ?? (process.env['UFFD_ADDON'] === undefined ? 1 : 10));

export function milliseconds(normally: number): number {
  return normally * slower;
}

/** How often something is done, or should happen, that takes its time. */
export function times(normally: number): number {
  return Math.ceil(normally / slower);
}

/** A signal for accesses and iterations that should end long before it. */
export function deadline(normally = 4000): AbortSignal {
  const signal = AbortSignal.timeout(milliseconds(normally));
  // One signal for a hundred accesses is no leak.
  setMaxListeners(0, signal);
  return signal;
}

/** Rejects when the promise takes longer; for what takes no signal. */
export async function within<T>(promise: Promise<T>, what: string, normally = 4000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`${what}: nothing after ${normally} ms`));
    }, milliseconds(normally));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
