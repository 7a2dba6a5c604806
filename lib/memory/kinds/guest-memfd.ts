import { type MemoryKind, notYet } from './kind.js';
import { unserved } from './unserved.js';

/** KVM guest_memfd that can be mapped. Filled like a memfd by a kernel that gives it a vm_uffd_ops. */
export const guestMemfd: MemoryKind = {
  ...unserved(
    'guest_memfd',
    'guest_memfd',
    notYet('no released kernel up to 7.3 gives it to a userfaultfd (EINVAL); use a memfd as guest memory'),
  ),
  fillWays: ['copy', 'continue'],
};
