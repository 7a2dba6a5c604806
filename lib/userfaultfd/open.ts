// Opening a userfaultfd, and saying what to do when that is not allowed.
import { KernelError, UffdError } from '../errors.js';
import { native } from '../native/load.js';
import { type FeatureName, featureMask, featureNames, unknownFeatures } from './features.js';

/**
 * How the descriptor was opened: /dev/userfaultfd (Linux 6.1), or the system call and why not the device. `received` from
 * somebody else; `fork` came with an event, for a child.
 */
export interface OpenRoute {
  readonly via: 'device' | 'syscall' | 'received' | 'fork';
  /** errno name of the device route when it failed, e.g. `EACCES`. */
  readonly deviceError?: string;
}

export interface Opened {
  readonly fd: number;
  readonly route: OpenRoute;
}

/** The remedy for each errno of the last route tried. */
function remedy(errno: number, userModeOnly: boolean): string {
  switch (errno) {
    case -1:
      return userModeOnly
        ? 'a seccomp filter forbids userfaultfd: allow the system call, or give access to /dev/userfaultfd'
        : 'give this user access to /dev/userfaultfd, or set vm.unprivileged_userfaultfd=1, or grant CAP_SYS_PTRACE, ' +
            'or open with userModeOnly (serves no kernel-mode faults)';
    case -38:
      return 'the kernel has no userfaultfd (CONFIG_USERFAULTFD), or a seccomp filter hides it';
    case -24:
    case -23:
      return 'too many open files: raise the limit (ulimit -n)';
    default:
      return 'see userfaultfd(2)';
  }
}

/** @throws KernelError with the remedy in its message */
export function openUserfaultfd(userModeOnly: boolean): Opened {
  const [fd, deviceErrno] = native().Userfaultfd.open(userModeOnly);
  if (fd >= 0) {
    if (deviceErrno === 0) return { fd, route: { via: 'device' } };
    return { fd, route: { via: 'syscall', deviceError: new KernelError(-deviceErrno, 'open').code } };
  }
  const device = deviceErrno === 0 ? '' : `/dev/userfaultfd: ${new KernelError(-deviceErrno, '').code}; `;
  throw new KernelError(fd, 'userfaultfd', device + remedy(fd, userModeOnly));
}

/**
 * What the kernel offers, asked of a descriptor that is thrown away: a handshake fixes the features for good.
 * @param userModeOnly needs no permission, but Linux 5.11 (EINVAL before); with false it is the other way round
 */
export function availableFeatures(userModeOnly = true): { names: Set<FeatureName>; unknown: bigint; ioctls: bigint } {
  const { fd } = openUserfaultfd(userModeOnly);
  const probe = new (native().Userfaultfd)(fd);
  try {
    const api = probe.handshake(0n);
    if (typeof api === 'number') throw new KernelError(api, 'UFFDIO_API');
    return { names: featureNames(api[0]), unknown: unknownFeatures(api[0]), ioctls: api[1] };
  } finally {
    probe.close();
  }
}

/** Completes the handshake. @throws UffdError ERR_FEATURE_MISSING with the names, KernelError EPERM for eventFork */
export function handshake(
  descriptor: { handshake(features: bigint): [bigint, bigint] | number },
  features: readonly FeatureName[],
  userModeOnly: boolean,
): { available: Set<FeatureName> } {
  const api = descriptor.handshake(featureMask(features));
  if (typeof api !== 'number') return { available: featureNames(api[0]) };
  const offered = availableFeatures(userModeOnly).names;
  const missing = features.filter((name) => !offered.has(name));
  if (missing.length > 0) {
    const error = new UffdError('ERR_FEATURE_MISSING', `this kernel's userfaultfd lacks: ${missing.join(', ')}`);
    throw Object.assign(error, { missing });
  }
  const needsPtrace = features.includes('eventFork') && api === -1;
  throw new KernelError(api, 'UFFDIO_API', needsPtrace ? 'eventFork needs CAP_SYS_PTRACE' : features.join(', '));
}
