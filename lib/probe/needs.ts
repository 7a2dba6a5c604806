// What a probe needs before its question makes sense, each asked of the kernel.
import { freeHugePages } from '../memory/huge-pages.js';
import { type Kernel, errnoOf, openPath, outcomeName } from './kernel.js';
import { openAny, statusField, syscallBlocker, tryOpenings } from './openings.js';
import { type BlockerName, NotAsked, NotThere } from './probe.js';
import { HUGE_2M, type Scene } from './scene.js';

interface NeedCheck {
  readonly description: string;
  /** @throws NotAsked, NotThere */
  readonly check: (scene: Scene) => void;
}

export const needs = {
  userfaultfd: {
    description: 'a userfaultfd, by any route',
    check: ({ kernel }) => {
      const { fd } = openAny(kernel);
      if (fd >= 0) kernel.systemCall('close', fd);
      else refuse(tryOpenings(kernel));
    },
  },
  kernelFaults: {
    description: 'a userfaultfd that reports faults of kernel code',
    check: ({ kernel }) => {
      const { fd, kernelFaults } = openAny(kernel);
      if (fd >= 0) kernel.systemCall('close', fd);
      if (fd < 0 || !kernelFaults) refuse(tryOpenings(kernel));
    },
  },
  kvm: {
    description: 'access to /dev/kvm',
    check: ({ kernel }) => {
      const fd = openPath(kernel, '/dev/kvm', true);
      if (fd >= 0) kernel.systemCall('close', fd);
      else refuseKvm(kernel, outcomeName(fd));
    },
  },
  x86: {
    description: 'an x86-64 machine, for the guest that it runs',
    check: () => {
      if (process.arch !== 'x64') throw NotAsked.skipped('the guest is for x86-64');
    },
  },
  freeHugePage: {
    description: 'a free huge page of 2 MiB',
    check: () => {
      if (freePages() < 1) throw NotAsked.skipped('no free huge pages');
    },
  },
  noFreeHugePage: {
    description: 'an empty pool of huge pages of 2 MiB',
    check: () => {
      if (freePages() > 0) throw NotAsked.skipped('there are free huge pages');
    },
  },
} as const satisfies Record<string, NeedCheck>;
export type Need = keyof typeof needs;

function refuse(openings: ReturnType<typeof tryOpenings>): never {
  const evidence = { seen: openings.syscall, device: openings.device, userModeOnly: openings.userModeOnly };
  const blocker = syscallBlocker(openings);
  if (blocker !== undefined) throw NotAsked.blocked(blocker, evidence);
  throw new NotThere(evidence, 'the kernel has no userfaultfd (CONFIG_USERFAULTFD)');
}

/** @throws NotAsked, NotThere */
export function refuseKvm(kernel: Kernel, errno: string): never {
  const evidence = { seen: errno, inProcMisc: /^\s*\d+ kvm$/m.test(kernel.readText('/proc/misc') ?? '') };
  const blocked = (blocker: BlockerName, remedy: string) => NotAsked.blocked({ blocker, remedy }, evidence);
  if (errno === 'EACCES') throw blocked('device mode', 'give this user access to /dev/kvm (the group kvm, setfacl)');
  if (errno === 'EPERM') throw blocked('device cgroup', 'allow /dev/kvm in the device cgroup (docker run --device)');
  if (errno === 'ENOENT' && evidence.inProcMisc) {
    throw blocked('device node', 'the kernel has KVM, but there is no /dev/kvm here: pass it in (docker run --device)');
  }
  throw new NotThere(evidence, 'KVM (a module of the kernel, and virtualization of the CPU)');
}

/** A system call that is permitted to everybody, so that EPERM is a filter's. @throws NotAsked */
export function unlessFiltered(kernel: Kernel, name: string, errno: string): string {
  if (errno !== 'EPERM' || (statusField(kernel, 'Seccomp') ?? '0') === '0') return errno;
  const blocker = { blocker: 'seccomp', remedy: `allow ${name}(2) in the seccomp profile` } as const;
  throw NotAsked.blocked(blocker, { seen: errno });
}

function freePages(): number {
  try {
    return freeHugePages(HUGE_2M);
  } catch (error) {
    errnoOf(error);
    return 0;
  }
}
