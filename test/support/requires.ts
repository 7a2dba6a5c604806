// Named capabilities of the machine: a test that needs one is skipped, by name and reason, where it is missing.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { type TestContext, inject } from 'vitest';
import { Mapping, Userfaultfd, isSupported, pageEntries } from '../../dist/index.js';
import { memoryCgroups } from './memory-cgroup.js';
import { required } from './required-probes.js';

const TMPFS = 0x01021994;
const RAMFS = 0x858458f6;

/** What is missing, or undefined when nothing is. */
type Check = () => string | undefined;

/** By what `uffd probe` has found when the run of the tests began. */
function probed(id: string): Check {
  return () => {
    const { result, evidence, remedy, meaning } = inject('probes').find((one) => one.id === id)!;
    // No kernel is known to answer so: what needs it runs, and fails by name. It is not the kernel that lacks something.
    return result === 'yes' || result === 'differs'
      ? undefined
      : `${id} is ${result} (${remedy ?? meaning ?? evidence.seen})`;
  };
}

const byProbe = Object.fromEntries(Object.entries(required).map(([name, id]) => [name, probed(id)])) as Record<
  keyof typeof required,
  Check
>;

function program(name: string): Check {
  return () => (spawnSync(name, ['--version']).status === 0 ? undefined : `no ${name}`);
}

/** Linux of at least that version: for what nothing else tells. */
export function linux(major: number, minor: number): boolean {
  const [ofMajor, ofMinor] = release().split('.').map(Number);
  return ofMajor! > major || (ofMajor === major && ofMinor! >= minor);
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

const checks = {
  ...byProbe,
  uffd: () => {
    const { kernelFaults, reason } = isSupported();
    return kernelFaults ? undefined : reason;
  },
  'uffd-device': () => (existsSync('/dev/userfaultfd') ? undefined : 'no /dev/userfaultfd'),
  // Linux 6.14, and the stable kernels that took the same change: see `mremapClears`.
  'wp-mremap': mremapClears,
  'madv-collapse': () => (linux(6, 1) ? undefined : 'MADV_COLLAPSE came with Linux 6.1'),
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
  swap: () => (readFileSync('/proc/swaps', 'utf8').trim().includes('\n') ? undefined : 'this machine has none'),
  root: () => (process.getuid?.() === 0 ? undefined : 'not root'),
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
