// The kernel, and the limits of this host that memory under a userfaultfd runs into.
import { release, version } from 'node:os';
import { gunzipSync } from 'node:zlib';
import type { Probe } from '../probe.js';
import type { Scene } from '../scene.js';

const configKeys = [
  'USERFAULTFD',
  'HAVE_ARCH_USERFAULTFD_WP',
  'HAVE_ARCH_USERFAULTFD_MINOR',
  'PTE_MARKER_UFFD_WP',
  'MEMFD_CREATE',
  'SECRETMEM',
  'HUGETLBFS',
  'TRANSPARENT_HUGEPAGE',
  'MEMORY_FAILURE',
  'MEM_SOFT_DIRTY',
  'MEMCG',
  'SWAP',
  'NUMA',
  'KVM',
  'KVM_GUEST_MEMFD',
  'KVM_PRIVATE_MEM',
  'KVM_GENERIC_MEMORY_ATTRIBUTES',
  'KVM_SW_PROTECTED_VM',
];

/** The keys that are set, of /proc/config.gz; undefined where there is none. */
function kernelConfig({ kernel }: Scene): string | undefined {
  const packed = kernel.readBytes('/proc/config.gz');
  if (packed === undefined) return undefined;
  const text = gunzipSync(packed).toString('latin1');
  return configKeys.filter((key) => new RegExp(`^CONFIG_${key}=[ym]$`, 'm').test(text)).join(' ');
}

function limitOf(scene: Scene, name: string): string {
  const line = (scene.kernel.readText('/proc/self/limits') ?? '').split('\n').find((text) => text.startsWith(name));
  return line?.slice(name.length).trim().split(/\s+/)[0] ?? 'absent';
}

function limit(id: string, name: string, description: string, enough: number, means: string): Probe {
  return {
    id,
    description,
    since: '2.6',
    needs: [],
    outcomes: { enough: { result: 'yes', kernels: 'all' }, low: { result: 'no', kernels: 'all', means } },
    ask: (scene) => {
      const value = limitOf(scene, name);
      return { seen: value === 'unlimited' || Number(value) >= enough ? 'enough' : 'low', limit: value };
    },
  };
}

function cgroupLimit({ kernel }: Scene): string {
  const path = /^0::(.*)$/m.exec(kernel.readText('/proc/self/cgroup') ?? '')?.[1];
  // The limits of all the groups above count too.
  const limits: number[] = [];
  for (let at = path ?? ''; at !== ''; at = at.slice(0, Math.max(0, at.lastIndexOf('/')))) {
    const text = kernel.readText(`/sys/fs/cgroup${at}/memory.max`)?.trim();
    if (text !== undefined && text !== 'max') limits.push(Number(text));
  }
  return limits.length === 0 ? 'none' : String(Math.min(...limits));
}

export const host: readonly Probe[] = [
  {
    id: 'sys.kernel',
    description: 'the kernel tells its release and how it was built',
    since: '1.0',
    needs: [],
    outcomes: {
      'release and configuration': { result: 'yes', kernels: 'with CONFIG_IKCONFIG_PROC' },
      release: { result: 'yes', kernels: 'without CONFIG_IKCONFIG_PROC' },
    },
    ask: (scene) => {
      const config = kernelConfig(scene);
      const seen = config === undefined ? 'release' : 'release and configuration';
      return { seen, release: release(), version: version(), ...(config !== undefined && { config }) };
    },
  },
  {
    id: 'sysctl.overcommit',
    description: 'memory can be mapped without being reserved (vm.overcommit_memory)',
    since: '2.6',
    needs: [],
    outcomes: {
      '0': { result: 'yes', kernels: 'all, by default' },
      '1': { result: 'yes', kernels: 'all' },
      '2': {
        result: 'no',
        kernels: 'all',
        means: 'mappings count in full against the limit: large sparse ones may fail',
      },
    },
    ask: ({ kernel }) => kernel.readText('/proc/sys/vm/overcommit_memory')?.trim() ?? 'absent',
  },
  {
    id: 'sysctl.max_map_count',
    description: 'a process may have the usual number of mappings, which registering parts of a mapping uses up',
    since: '2.6',
    needs: [],
    outcomes: {
      enough: { result: 'yes', kernels: 'all, by default' },
      low: { result: 'no', kernels: 'all', means: 'registering a part of a mapping may fail with ENOMEM' },
    },
    ask: ({ kernel }) => {
      const count = Number(kernel.readText('/proc/sys/vm/max_map_count')?.trim() ?? 0);
      return { seen: count >= 65_530 ? 'enough' : 'low', count };
    },
  },
  {
    id: 'sysctl.nr_hugepages',
    description: 'the pool of huge pages has some',
    since: '2.6',
    needs: [],
    outcomes: {
      some: { result: 'yes', kernels: 'all' },
      none: { result: 'no', kernels: 'all, by default', means: 'hugetlb memory cannot be filled: set vm.nr_hugepages' },
      absent: { result: 'no', kernels: 'without CONFIG_HUGETLBFS' },
    },
    ask: ({ kernel }) => {
      const text = kernel.readText('/proc/sys/vm/nr_hugepages')?.trim();
      if (text === undefined) return 'absent';
      return { seen: Number(text) > 0 ? 'some' : 'none', pages: Number(text) };
    },
  },
  limit(
    'rlimit.memlock',
    'Max locked memory',
    'memory can be locked without a limit that counts (1 GiB)',
    2 ** 30,
    'mlock and memfd_secret fail beyond it: raise it with ulimit -l',
  ),
  limit(
    'rlimit.nofile',
    'Max open files',
    'a server can have the descriptors of a thousand clients, three each',
    4096,
    'raise it with ulimit -n: each client needs three descriptors',
  ),
  {
    id: 'cgroup.memory.max',
    description: 'no memory limit of a control group counts here',
    since: '4.5',
    needs: [],
    outcomes: {
      none: { result: 'yes', kernels: 'all' },
      limited: {
        result: 'no',
        kernels: 'all',
        means: 'pages filled by COPY count against it, in the group of the client',
      },
    },
    ask: (scene) => {
      const bytes = cgroupLimit(scene);
      return { seen: bytes === 'none' ? 'none' : 'limited', bytes };
    },
  },
];
