// Named capabilities of the machine: a test that needs one is skipped, by name and reason, where it is missing.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import process from 'node:process';
import type { TestContext } from 'vitest';
import { Kvm, Mapping, Memfd, Userfaultfd, availableFeatures, isSupported } from '../../dist/index.js';
import type { FeatureName } from '../../dist/index.js';
import { memoryCgroups } from './memory-cgroup.js';

/** What is missing, or undefined when nothing is. */
type Check = () => string | undefined;

function feature(name: FeatureName): Check {
  return () => {
    const { supported, reason } = isSupported();
    if (!supported) return reason ?? 'no userfaultfd';
    return availableFeatures().names.has(name) ? undefined : `this kernel has no userfaultfd feature ${name}`;
  };
}

/** What the kernel says when it is tried. */
function tried(make: () => Disposable): Check {
  return () => {
    try {
      make()[Symbol.dispose]();
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  };
}

function program(name: string): Check {
  return () => (spawnSync(name, ['--version']).status === 0 ? undefined : `no ${name}`);
}

/** A machine with KVM, and what it must be able to do. */
function kvm(check: (kvm: Kvm) => string | undefined = () => undefined): Check {
  return () => {
    try {
      using opened = Kvm.open();
      return check(opened);
    } catch (error) {
      return (error as Error).message;
    }
  };
}

const checks = {
  uffd: () => {
    const { kernelFaults, reason } = isSupported();
    return kernelFaults ? undefined : reason;
  },
  'uffd-device': () => (existsSync('/dev/userfaultfd') ? undefined : 'no /dev/userfaultfd'),
  'uffd-minor': feature('minorShmem'),
  'uffd-poison': feature('poison'),
  'uffd-exact-address': feature('exactAddress'),
  'uffd-move': feature('move'),
  'uffd-wp-async': feature('wpAsync'),
  'uffd-wp-shmem': feature('wpHugetlbfsShmem'),
  'uffd-wp-unpopulated': feature('wpUnpopulated'),
  'uffd-event-fork': tried(() => Userfaultfd.open({ features: ['eventFork'] })),
  'memfd-noexec': tried(() => Memfd.create({ sizeBytes: 1, noexec: true })),
  'memfd-secret': tried(() => Memfd.createSecret({ sizeBytes: 1 })),
  'numa-policy': tried(() => {
    const mapping = Mapping.anonymous(1);
    mapping.policyAt(0);
    return mapping;
  }),
  cc: program('cc'),
  prlimit: program('prlimit'),
  thp: () => {
    const enabled = readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8');
    return enabled.includes('[never]') ? 'transparent huge pages are switched off' : undefined;
  },
  root: () => (process.getuid?.() === 0 ? undefined : 'not root'),
  'hugetlb-2M': () => (existsSync('/sys/kernel/mm/hugepages/hugepages-2048kB') ? undefined : 'no 2M huge pages'),
  fuse: () => {
    try {
      accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
      return undefined;
    } catch {
      return 'no access to /dev/fuse';
    }
  },
  'libfuse3-dev': () =>
    spawnSync('pkg-config', ['--exists', 'fuse3']).status === 0 ? undefined : 'libfuse3-dev or pkg-config is missing',
  'memory-cgroup': () => (memoryCgroups() === undefined ? 'no cgroup with a memory controller can be made' : undefined),
  python3: program('python3'),
  promtool: program('promtool'),
  as: program('as'),
  kvm: process.arch === 'x64' ? kvm() : () => 'KVM guests are tested on x86-64 only',
  'guest-memfd': kvm((opened) => {
    if (opened.capability('guestMemfd') === 0) return 'this KVM has no guest_memfd (Linux 6.8)';
    return (opened.capability('guestMemfdFlags') & 3) === 3
      ? undefined
      : 'guest_memfd cannot be mapped here (Linux 6.18)';
  }),
} satisfies Record<string, Check>;

export type Capability = keyof typeof checks;

const known = new Map<Capability, string | undefined>();

function missing(name: Capability): string | undefined {
  if (!known.has(name)) known.set(name, checks[name]());
  return known.get(name);
}

/** Whether the machine is without one of them: for preparations that would fail. */
export function lacks(...capabilities: Capability[]): boolean {
  return capabilities.some((name) => missing(name) !== undefined);
}

/** Skips the test unless the machine has all of them. */
export function requires(context: Pick<TestContext, 'skip'>, ...capabilities: Capability[]): void {
  for (const name of capabilities) {
    const why = missing(name);
    if (why !== undefined) context.skip(`${name}: ${why}`);
  }
}
