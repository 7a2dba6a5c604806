// Named capabilities of the machine: a test that needs one is skipped, by name and reason, where it is missing.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import type { TestContext } from 'vitest';
import {
  Kvm,
  Mapping,
  Memfd,
  Userfaultfd,
  availableFeatures,
  isSupported,
  pageEntries,
  scanPages,
} from '../../dist/index.js';
import type { FeatureName, ScanOptions } from '../../dist/index.js';
import { memoryCgroups } from './memory-cgroup.js';

const TMPFS = 0x01021994;
const RAMFS = 0x858458f6;

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

/** Linux of at least that version: for what nothing else tells. */
export function linux(major: number, minor: number): boolean {
  const [ofMajor, ofMinor] = release().split('.').map(Number);
  return ofMajor! > major || (ofMajor === major && ofMinor! >= minor);
}

function scanning(options: ScanOptions): () => Disposable {
  return () => {
    const mapping = Mapping.anonymous(1);
    Array.from(scanPages(mapping, options));
    return mapping;
  };
}

function guarded(shared: boolean): Disposable {
  const mapping = Mapping.anonymous(1, { shared });
  mapping.advise('guardInstall');
  return mapping;
}

/** Before 6.14 mremap(2) left the bits of write protection behind, of memory no longer registered. */
function mremapClears(): string | undefined {
  const mapping = Mapping.anonymous(1);
  const uffd = Userfaultfd.open({ userModeOnly: true });
  try {
    mapping.populate('write');
    uffd.writeProtect({ region: uffd.register(mapping, ['wp']), page: 0 });
    mapping.relocate();
    const [entry] = pageEntries(mapping);
    return entry!.writeProtected ? 'this kernel leaves the bits of write protection behind (Linux 6.14)' : undefined;
  } finally {
    uffd.close();
    mapping.unmap();
  }
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
  'uffd-rwp': feature('rwp'),
  'uffd-event-fork': tried(() => Userfaultfd.open({ features: ['eventFork'] })),
  // Linux 6.14, and the stable kernels that took the same change: see `mremapClears`.
  'wp-mremap': mremapClears,
  'pagemap-scan': tried(scanning({})),
  'pagemap-guard': tried(scanning({ allOf: ['guard'] })),
  'soft-dirty': () => {
    using mapping = Mapping.anonymous(1);
    mapping.populate('write');
    return pageEntries(mapping)[0]!.softDirty ? undefined : 'this kernel is built without CONFIG_MEM_SOFT_DIRTY';
  },
  'guard-anon': tried(() => guarded(false)),
  'guard-shmem': tried(() => guarded(true)),
  'madv-collapse': () => (linux(6, 1) ? undefined : 'MADV_COLLAPSE came with Linux 6.1'),
  'memfd-noexec': tried(() => Memfd.create({ sizeBytes: 1, noexec: true })),
  'memfd-secret': tried(() => Memfd.createSecret({ sizeBytes: 1 })),
  'numa-policy': tried(() => {
    const mapping = Mapping.anonymous(1);
    mapping.policyAt(0);
    return mapping;
  }),
  // Programs compiled before take the place of a compiler.
  cc: () => (process.env['UFFD_TEST_BIN'] === undefined ? program('cc')() : undefined),
  prlimit: program('prlimit'),
  // Where everything is in memory, as in an initial RAM disk, its files are shmem.
  disk: () => {
    const inMemory = [tmpdir(), process.execPath].some((path) => [TMPFS, RAMFS].includes(statfsSync(path).type));
    return inMemory ? 'the file system is in memory' : undefined;
  },
  thp: () => {
    const enabled = readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8');
    return enabled.includes('[never]') ? 'transparent huge pages are switched off' : undefined;
  },
  root: () => (process.getuid?.() === 0 ? undefined : 'not root'),
  'hugetlb-2M': () => (existsSync('/sys/kernel/mm/hugepages/hugepages-2048kB') ? undefined : 'no 2M huge pages'),
  'hugetlb-1G': () => (existsSync('/sys/kernel/mm/hugepages/hugepages-1048576kB') ? undefined : 'no 1G huge pages'),
  fuse: () => {
    try {
      accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
      return undefined;
    } catch {
      return 'no access to /dev/fuse';
    }
  },
  'libfuse3-dev': () => {
    const ready = process.env['UFFD_TEST_BIN'];
    const there =
      ready === undefined
        ? spawnSync('pkg-config', ['--exists', 'fuse3']).status === 0
        : existsSync(join(ready, 'slow-fuse'));
    return there ? undefined : 'libfuse3-dev or pkg-config is missing';
  },
  'memory-cgroup': () => (memoryCgroups() === undefined ? 'no cgroup with a memory controller can be made' : undefined),
  python3: program('python3'),
  promtool: program('promtool'),
  as: program('as'),
  kvm: process.arch === 'x64' ? kvm() : () => 'KVM guests are tested on x86-64 only',
  // No feature bit says so.
  'guest-memfd-uffd': kvm((opened) => {
    if ((opened.capability('guestMemfdFlags') & 3) !== 3) return 'guest_memfd cannot be mapped here (Linux 6.18)';
    const vm = opened.createVm();
    using file = vm.createGuestMemfd({ sizeBytes: 4096, flags: ['mmap', 'initShared'] });
    const mapping = file.map();
    using userfaultfd = Userfaultfd.open();
    try {
      file.register(userfaultfd, mapping, ['missing']);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    } finally {
      mapping.unmap();
      void vm.close();
    }
  }),
  'guest-memfd': kvm((opened) => {
    if (opened.capability('guestMemfd') === 0) return 'this KVM has no guest_memfd (Linux 6.8)';
    return (opened.capability('guestMemfdFlags') & 3) === 3
      ? undefined
      : 'guest_memfd cannot be mapped here (Linux 6.18)';
  }),
  'kvm-private-memory': kvm((opened) => {
    const types = opened.vmTypes.filter((type) => type !== 0);
    return types.length > 0 ? undefined : 'this KVM has no VM type with private memory';
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
