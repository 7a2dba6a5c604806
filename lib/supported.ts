// Whether this machine can do it, and if not, what is missing.
import { messageOf } from './errors.js';
import { openUserfaultfd } from './userfaultfd/open.js';
import { native } from './native/load.js';

/** What `isSupported` found out. */
export interface Support {
  /** A userfaultfd can be opened: with `kernelFaults` also for faults of kernel code, as KVM guests cause. */
  readonly supported: boolean;
  readonly kernelFaults: boolean;
  /** What is missing, with the remedy. */
  readonly reason?: string;
}

/** Tries to open a userfaultfd. Never throws. */
export function isSupported(): Support {
  try {
    native().closeFd(openUserfaultfd(false).fd);
    return { supported: true, kernelFaults: true };
  } catch (error) {
    const reason = messageOf(error);
    try {
      native().closeFd(openUserfaultfd(true).fd);
      return { supported: true, kernelFaults: false, reason };
    } catch {
      return { supported: false, kernelFaults: false, reason };
    }
  }
}
