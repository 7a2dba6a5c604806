// Outcomes of answers are values: only what no retry and no other answer can mend is an exception.
import { KernelError } from '../errors.js';

/**
 * - `installed`: done in full.
 * - `already`: the page is there (EEXIST); nobody was woken by this.
 * - `absent`: no such page or registration (ENOENT), or nothing to map or read (EFAULT).
 * - `changing`: the mappings are being changed (EAGAIN, nothing done): read the events, then try again.
 * - `partial`: only the first `bytes` were done; what stopped it shows when the rest is tried.
 * - `exhausted`: no free huge page (hugetlb of this process: the kernel says EEXIST, but the page is not there), or no
 *   memory (ENOMEM). Since 7.3 also a COPY beyond the end of shared memory that was cut off; before, that is `absent`.
 * - `gone`: the process has exited (ESRCH).
 * - `failed`: of a batch only; what the single answer throws is in `error`.
 */
export interface Outcome {
  readonly kind: 'installed' | 'already' | 'absent' | 'changing' | 'partial' | 'exhausted' | 'gone' | 'failed';
  /** Bytes done. */
  readonly bytes: number;
  readonly error?: KernelError;
}

const byErrno: Record<number, Outcome['kind']> = {
  [-2]: 'absent',
  [-3]: 'gone',
  [-11]: 'changing',
  [-12]: 'exhausted',
  [-14]: 'absent',
  [-17]: 'already',
};

export function outcomeOf(result: number, lengthBytes: number, ioctl: string, detail: string): Outcome {
  if (result === lengthBytes) return { kind: 'installed', bytes: result };
  if (result >= 0) return { kind: 'partial', bytes: result };
  const kind = byErrno[result];
  if (kind === undefined) return { kind: 'failed', bytes: 0, error: new KernelError(result, ioctl, detail) };
  return { kind, bytes: 0 };
}
