// The routes to a userfaultfd, and everything that permits or forbids them.
import { outcomeName } from '../kernel.js';
import {
  deviceBlocker,
  hasCapability,
  inInitialUserNamespace,
  openByDevice,
  openBySyscall,
  statusField,
  syscallBlocker,
  tryOpenings,
} from '../openings.js';
import { type Evidence, NotAsked, type Probe, always, supported } from '../probe.js';
import type { Scene } from '../scene.js';

/** With UFFD_USER_MODE_ONLY, so that permission is not what is asked about. */
const UNKNOWN_FLAG = (1 << 20) | 1;

function bySyscall(scene: Scene, route: 'syscall' | 'userModeOnly'): Evidence {
  const openings = tryOpenings(scene.kernel);
  const evidence = { seen: openings[route], seccomp: openings.seccompMode, sysctl: openings.sysctl ?? 'absent' };
  const blocker = syscallBlocker(openings);
  const refused = openings[route] === 'EPERM' || openings[route] === 'ENOSYS';
  if (refused && blocker !== undefined) throw NotAsked.blocked(blocker, evidence);
  return evidence;
}

function byDevice(scene: Scene): Evidence {
  const openings = tryOpenings(scene.kernel);
  const evidence = { seen: openings.device, inProcMisc: openings.deviceRegistered };
  const blocker = deviceBlocker(openings);
  if (blocker !== undefined) throw NotAsked.blocked(blocker, evidence);
  return evidence;
}

function capability(id: string, name: string, number: number, means: string): Probe {
  return {
    id,
    description: `this process has ${name} in the initial user namespace`,
    since: '2.2',
    needs: [],
    outcomes: {
      held: { result: 'yes', kernels: 'all' },
      'not held': { result: 'no', kernels: 'all', means },
      'held in a user namespace': {
        result: 'no',
        kernels: 'all',
        means: `${name} counts in the initial user namespace only`,
      },
    },
    ask: ({ kernel }) => {
      const held = hasCapability(kernel, number);
      const initial = inInitialUserNamespace(kernel);
      const seen = held ? (initial ? 'held' : 'held in a user namespace') : 'not held';
      return { seen, CapEff: statusField(kernel, 'CapEff') ?? 'unknown', initialUserNamespace: initial };
    },
  };
}

export const opening: readonly Probe[] = [
  {
    id: 'uffd.dev',
    description: '/dev/userfaultfd gives a userfaultfd for faults of user mode and of kernel code',
    since: '6.1',
    needs: [],
    outcomes: supported('6.1', 'use the system call', ['ENOENT']),
    ask: byDevice,
  },
  {
    id: 'uffd.syscall.full',
    description: 'userfaultfd(2) gives one for faults of user mode and of kernel code',
    since: '4.3',
    needs: [],
    outcomes: supported('4.3', 'the kernel is built without CONFIG_USERFAULTFD', ['ENOSYS']),
    ask: (scene) => bySyscall(scene, 'syscall'),
  },
  {
    id: 'uffd.syscall.userModeOnly',
    description: 'userfaultfd(2) with UFFD_USER_MODE_ONLY gives one for faults of user mode, to everybody',
    since: '5.11',
    needs: [],
    outcomes: supported('5.11', 'without a privilege there is no userfaultfd', ['EINVAL', 'ENOSYS']),
    ask: (scene) => bySyscall(scene, 'userModeOnly'),
  },
  {
    id: 'uffd.sysctl',
    description: 'the sysctl vm.unprivileged_userfaultfd lets everybody have faults of kernel code',
    since: '5.2',
    needs: [],
    outcomes: {
      '0': { result: 'no', kernels: '5.11 and later by default', means: 'only CAP_SYS_PTRACE or the device do' },
      '1': { result: 'yes', kernels: '5.2 to 5.10 by default' },
      absent: { result: 'no', kernels: 'before 5.2, or without CONFIG_USERFAULTFD' },
    },
    ask: ({ kernel }) => kernel.readText('/proc/sys/vm/unprivileged_userfaultfd')?.trim() ?? 'absent',
  },
  capability('cap.ptrace', 'CAP_SYS_PTRACE', 19, 'userfaultfd(2) without the sysctl, and eventFork, need it'),
  capability('cap.admin', 'CAP_SYS_ADMIN', 21, 'page frame numbers in pagemap read as 0'),
  capability('cap.ipcLock', 'CAP_IPC_LOCK', 14, 'mlock and memfd_secret are limited by RLIMIT_MEMLOCK'),
  {
    id: 'seccomp.mode',
    description: 'no seccomp filter is installed',
    since: '3.8',
    needs: [],
    outcomes: {
      '0': { result: 'yes', kernels: 'all' },
      '1': { result: 'no', kernels: 'all' },
      '2': { result: 'no', kernels: 'all', means: 'a filter is there: what it forbids, the other probes say' },
    },
    ask: ({ kernel }) => ({
      seen: statusField(kernel, 'Seccomp') ?? '0',
      NoNewPrivs: statusField(kernel, 'NoNewPrivs') ?? 'unknown',
      filters: statusField(kernel, 'Seccomp_filters') ?? 'unknown',
    }),
  },
  {
    id: 'uffd.badFlags',
    description: 'an unknown flag is refused, by the system call and by the device',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: {
      EINVAL: { result: 'yes', kernels: '4.3 and later' },
      ok: { result: 'differs', kernels: 'none known', means: 'the flags of newer kernels cannot be told from nothing' },
    },
    ask: (scene) => {
      const syscall = outcomeName(scene.descriptor(openBySyscall(scene.kernel, UNKNOWN_FLAG)));
      const device = outcomeName(scene.descriptor(openByDevice(scene.kernel, UNKNOWN_FLAG)));
      // A filter sits before the check of the flags; the device then tells.
      return { seen: syscall === 'EPERM' || syscall === 'ENOSYS' ? device : syscall, syscall, device };
    },
  },
  {
    id: 'uffd.fdinfo',
    description: '/proc/PID/fdinfo of a userfaultfd has its features and the number of faults that wait',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('pending, total, API', '4.3'),
    ask: (scene) => {
      const { fd } = scene.userfaultfd();
      const text = scene.kernel.readText(`/proc/self/fdinfo/${fd}`) ?? '';
      const found = ['pending', 'total', 'API'].filter((name) => new RegExp(`^${name}:`, 'm').test(text));
      return { seen: found.join(', '), API: /^API:\s*(\S+)/m.exec(text)?.[1] ?? 'none' };
    },
  },
];
