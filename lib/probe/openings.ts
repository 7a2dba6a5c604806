// The ways to a userfaultfd, each tried; and from what they say together, what stands in the way.
import type { Blocker } from './probe.js';
import { type Kernel, openPath, outcomeName } from './kernel.js';

const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const USER_MODE_ONLY = 1;
const IOC_NEW = 0xaa00;
export const OPEN_FLAGS = O_CLOEXEC | O_NONBLOCK;
const CAP_SYS_PTRACE = 19;

/** What the three routes and /proc say. Errno names, or `ok`. */
export interface Openings {
  readonly syscall: string;
  readonly userModeOnly: string;
  /** Of opening /dev/userfaultfd, or of USERFAULTFD_IOC_NEW when that worked. */
  readonly device: string;
  /** The kernel has the device, whether or not it has a node here (/proc/misc). */
  readonly deviceRegistered: boolean;
  /** vm.unprivileged_userfaultfd; undefined: no such sysctl. */
  readonly sysctl: string | undefined;
  readonly capPtrace: boolean;
  readonly initialUserNamespace: boolean;
  /** /proc/self/status: 0 none, 1 strict, 2 a filter. */
  readonly seccompMode: number;
}

export function openBySyscall(kernel: Kernel, flags = 0): number {
  return kernel.systemCall('userfaultfd', OPEN_FLAGS | flags);
}

export function openUserModeOnly(kernel: Kernel): number {
  return openBySyscall(kernel, USER_MODE_ONLY);
}

export function openByDevice(kernel: Kernel, flags = 0): number {
  const device = openPath(kernel, '/dev/userfaultfd', true);
  if (device < 0) return device;
  const fd = kernel.systemCall('ioctl', device, IOC_NEW, OPEN_FLAGS | flags);
  kernel.systemCall('close', device);
  return fd;
}

/** A descriptor, with the faults of kernel code if that is permitted; negative when no route leads there. */
export function openAny(kernel: Kernel): { fd: number; kernelFaults: boolean } {
  for (const open of [openByDevice, openBySyscall]) {
    const fd = open(kernel);
    if (fd >= 0) return { fd, kernelFaults: true };
  }
  return { fd: openUserModeOnly(kernel), kernelFaults: false };
}

/** One for faults of user mode only: the device gives it too, past a filter of the system call. */
export function openLimited(kernel: Kernel): number {
  const fd = openByDevice(kernel, USER_MODE_ONLY);
  return fd >= 0 ? fd : openUserModeOnly(kernel);
}

/** Line of /proc/self/status. */
export function statusField(kernel: Kernel, name: string): string | undefined {
  return new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(kernel.readText('/proc/self/status') ?? '')?.[1];
}

export function hasCapability(kernel: Kernel, number: number): boolean {
  return ((BigInt(`0x${statusField(kernel, 'CapEff') ?? '0'}`) >> BigInt(number)) & 1n) === 1n;
}

export function inInitialUserNamespace(kernel: Kernel): boolean {
  const map = kernel.readText('/proc/self/uid_map');
  // A kernel without user namespaces has no such file.
  return map === undefined || /^\s*0\s+0\s+4294967295\s*$/.test(map);
}

export function tryOpenings(kernel: Kernel): Openings {
  const tried = (open: (kernel: Kernel) => number) => {
    const fd = open(kernel);
    if (fd >= 0) kernel.systemCall('close', fd);
    return outcomeName(fd);
  };
  return {
    syscall: tried(openBySyscall),
    userModeOnly: tried(openUserModeOnly),
    device: tried(openByDevice),
    deviceRegistered: /^\s*\d+ userfaultfd$/m.test(kernel.readText('/proc/misc') ?? ''),
    sysctl: kernel.readText('/proc/sys/vm/unprivileged_userfaultfd')?.trim(),
    capPtrace: hasCapability(kernel, CAP_SYS_PTRACE),
    initialUserNamespace: inInitialUserNamespace(kernel),
    seccompMode: Number(statusField(kernel, 'Seccomp') ?? 0),
  };
}

const others = 'or give access to /dev/userfaultfd, which needs no capability';

/** What keeps the system call from working; undefined: nothing does, or the kernel has none. */
export function syscallBlocker(openings: Openings): Blocker | undefined {
  const { syscall, userModeOnly, seccompMode, sysctl } = openings;
  // The call with USER_MODE_ONLY is allowed to everybody, so whoever refuses that one is no sysctl.
  const hidden = syscall === 'ENOSYS' && (sysctl !== undefined || openings.deviceRegistered);
  if (syscall === 'EPERM' && userModeOnly !== 'EPERM') return privilegeBlocker(openings);
  if (syscall !== 'EPERM' && !hidden) return undefined;
  if (seccompMode !== 0) {
    return { blocker: 'seccomp', remedy: `allow userfaultfd(2) in the seccomp profile, ${others}` };
  }
  return { blocker: 'security module', remedy: `allow userfaultfd in the policy (SELinux, AppArmor), ${others}` };
}

function privilegeBlocker({ capPtrace, initialUserNamespace }: Openings): Blocker {
  if (!initialUserNamespace && capPtrace) {
    return {
      blocker: 'user namespace',
      remedy:
        'CAP_SYS_PTRACE counts in the initial user namespace only: start outside of this one, ' +
        `set vm.unprivileged_userfaultfd=1 on the host, ${others}`,
    };
  }
  return { blocker: 'sysctl', remedy: `set vm.unprivileged_userfaultfd=1, or grant CAP_SYS_PTRACE, ${others}` };
}

/** What keeps the device from working; undefined: nothing does, or the kernel is older than it. */
export function deviceBlocker({ device, deviceRegistered }: Openings): Blocker | undefined {
  switch (device) {
    case 'ENOENT':
      if (!deviceRegistered) return undefined;
      return {
        blocker: 'device node',
        remedy: 'the kernel has the device, but there is no /dev/userfaultfd here: pass it in (docker run --device)',
      };
    case 'EACCES':
      return { blocker: 'device mode', remedy: 'give this user access to /dev/userfaultfd (setfacl, or a udev rule)' };
    case 'EPERM':
      return { blocker: 'device cgroup', remedy: 'allow /dev/userfaultfd in the device cgroup (docker run --device)' };
    default:
      return undefined;
  }
}
