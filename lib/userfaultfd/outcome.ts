// Outcomes of answers are values: only what no retry and no other answer can mend is an exception.
import { KernelError } from '../errors.js';

/**
 * - `installed`: done in full.
 * - `already`: the page is there (EEXIST); nobody was woken by this.
 * - `absent`: no such page or registration (ENOENT), or nothing to map or read (EFAULT).
 * - `changing`: the mappings are being changed (EAGAIN, nothing done): read the events, then try again.
 * - `partial`: only the first `bytes` were done; what stopped it shows when the rest is tried.
 * - `gone`: the process has exited (ESRCH).
 */
export interface Outcome {
  readonly kind: 'installed' | 'already' | 'absent' | 'changing' | 'partial' | 'gone';
  /** Bytes done. */
  readonly bytes: number;
}

const byErrno: Record<number, Outcome['kind']> = {
  [-2]: 'absent',
  [-3]: 'gone',
  [-11]: 'changing',
  [-14]: 'absent',
  [-17]: 'already',
};

/** @throws KernelError for any errno that is not an outcome */
export function outcomeOf(result: number, lengthBytes: number, ioctl: string, detail: string): Outcome {
  if (result === lengthBytes) return { kind: 'installed', bytes: result };
  if (result >= 0) return { kind: 'partial', bytes: result };
  const kind = byErrno[result];
  if (kind === undefined) throw new KernelError(result, ioctl, detail);
  return { kind, bytes: 0 };
}
