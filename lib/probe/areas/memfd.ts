// memfd_create(2): flags, seals, huge pages, holes; and memfd_secret(2).
import { type HugePageSize, Seal, type SealName } from '../../memory/memfd.js';
import { outcomeName } from '../kernel.js';
import { unlessFiltered } from '../needs.js';
import { type Evidence, type Outcome, type Probe, always, supported } from '../probe.js';
import { HUGE_2M, type Scene } from '../scene.js';
import { smapsField } from '../smaps.js';

const MFD = { cloexec: 1, sealing: 2, hugetlb: 4, noexecSeal: 8, exec: 16 } as const;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const NAME_LIMIT = 249;

function create(scene: Scene, flags: number, name = 'uffd-probe'): number {
  return scene.descriptor(scene.call('memfd_create', Buffer.from(`${name}\0`), MFD.cloexec | flags));
}

function seal(name: SealName, since: string): Probe {
  return {
    id: `memfd.seal.${name}`,
    description: `a memfd can be sealed with ${name}`,
    since,
    needs: [],
    outcomes: supported(since),
    ask: (scene) => {
      const fd = create(scene, MFD.sealing);
      const added = scene.call('fcntl', fd, F_ADD_SEALS, Seal[name]);
      const seals = scene.call('fcntl', fd, F_GET_SEALS, 0);
      const seen = added === 0 && (seals & Seal[name]) === 0 ? 'not there' : outcomeName(added);
      return { seen, seals: `0x${seals.toString(16)}` };
    },
  };
}

/** Those that x86-64 and arm64 with pages of 4 KiB have between them. */
const sizes: readonly HugePageSize[] = ['64K', '2M', '32M', '512M', '1G'];

function huge(size: HugePageSize | 'default'): Probe {
  const bytes =
    size === 'default' ? 0 : Number.parseInt(size) * ({ K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[size.at(-1)!] ?? 1);
  const no: Outcome = {
    result: 'no',
    kernels: 'of machines without this size',
    means: 'no huge pages of that size here',
  };
  return {
    id: `memfd.hugetlb.${size}`,
    description: size === 'default' ? 'a memfd can have huge pages' : `a memfd can have huge pages of ${size}`,
    since: '4.14',
    needs: [],
    outcomes: {
      ok: { result: 'yes', kernels: '4.14 and later' },
      ENODEV: no,
      ENOENT: no,
      EINVAL: { result: 'no', kernels: 'before 4.14' },
    },
    ask: (scene) => outcomeName(create(scene, MFD.hugetlb + (bytes === 0 ? 0 : Math.log2(bytes) * 2 ** 26))),
  };
}

const flags: readonly Probe[] = [
  {
    id: 'memfd.create',
    description: 'memfd_create(2) is there',
    since: '3.17',
    needs: [],
    outcomes: supported('3.17', undefined, ['ENOSYS']),
    ask: (scene) => unlessFiltered(scene.kernel, 'memfd_create', outcomeName(create(scene, 0))),
  },
  {
    id: 'memfd.nameLimit',
    description: `a name has at most ${NAME_LIMIT} bytes`,
    since: '3.17',
    needs: [],
    outcomes: always('ok, EINVAL', '3.17'),
    ask: (scene) =>
      [NAME_LIMIT, NAME_LIMIT + 1].map((length) => outcomeName(create(scene, 0, 'x'.repeat(length)))).join(', '),
  },
  {
    id: 'memfd.noexecSeal',
    description: 'a memfd can be made not executable for good (MFD_NOEXEC_SEAL)',
    since: '6.3',
    needs: [],
    outcomes: {
      'seals 0x20': { result: 'yes', kernels: '6.3 and later' },
      EINVAL: { result: 'no', kernels: 'before 6.3' },
    },
    ask: (scene) => {
      const fd = create(scene, MFD.noexecSeal);
      return fd < 0 ? outcomeName(fd) : `seals 0x${scene.call('fcntl', fd, F_GET_SEALS, 0).toString(16)}`;
    },
  },
  {
    id: 'memfd.exec',
    description: 'a memfd can be asked to be executable (MFD_EXEC)',
    since: '6.3',
    needs: [],
    outcomes: {
      ...supported('6.3'),
      EACCES: { result: 'no', kernels: 'with vm.memfd_noexec=2', means: 'the sysctl vm.memfd_noexec forbids it' },
    },
    ask: (scene) => outcomeName(create(scene, MFD.exec)),
  },
  {
    id: 'memfd.execAndNoexec',
    description: 'asking for both is refused',
    since: '3.17',
    needs: [],
    outcomes: always('EINVAL', '3.17'),
    ask: (scene) => outcomeName(create(scene, MFD.exec | MFD.noexecSeal)),
  },
  {
    id: 'sysctl.memfd_noexec',
    description: 'memfds are executable unless asked otherwise (vm.memfd_noexec)',
    since: '6.3',
    needs: [],
    outcomes: {
      '0': { result: 'yes', kernels: '6.3 and later by default' },
      '1': { result: 'no', kernels: '6.3 and later', means: 'not executable unless asked for' },
      '2': { result: 'no', kernels: '6.3 and later', means: 'executable memfds are refused' },
      absent: { result: 'yes', kernels: 'before 6.3' },
    },
    ask: ({ kernel }) => kernel.readText('/proc/sys/vm/memfd_noexec')?.trim() ?? 'absent',
  },
  {
    id: 'memfd.secret',
    description: 'memfd_secret(2) gives memory that the kernel itself does not map',
    since: '5.14',
    needs: [],
    outcomes: supported('5.14, or with secretmem.enable=0', undefined, ['ENOSYS']),
    ask: (scene) =>
      unlessFiltered(scene.kernel, 'memfd_secret', outcomeName(scene.descriptor(scene.call('memfd_secret', 0)))),
  },
];

const behaviour: readonly Probe[] = [
  {
    id: 'memfd.punch',
    description: 'a hole punched into a memfd gives the memory back, and reads as zeroes',
    since: '3.5',
    needs: [],
    outcomes: always('0 bytes allocated, read 0', '3.5'),
    ask: async (scene) => {
      const { memfd, mapping } = scene.shared(1);
      await scene.access(mapping, 0, true);
      memfd.punchHole(0, scene.page);
      const allocated = memfd.allocatedBytes;
      return `${allocated} bytes allocated, ${await scene.access(mapping, 0)}`;
    },
  },
  {
    id: 'memfd.seekHoleData',
    description: 'lseek(2) finds data and holes of a memfd',
    since: '3.8',
    needs: [],
    outcomes: always('page 2, 1 page', '3.8'),
    ask: (scene) => {
      const memfd = scene.memfd(4);
      memfd.write(Uint8Array.of(1), 2 * scene.page);
      const [first] = memfd.extents();
      if (first === undefined) return 'no data';
      return `page ${first.offset / scene.page}, ${first.lengthBytes / scene.page} page`;
    },
  },
  {
    id: 'memfd.thp',
    description: 'MADV_COLLAPSE makes a huge page of a memfd',
    since: '6.1',
    needs: [],
    outcomes: {
      'a huge page': { result: 'yes', kernels: '6.1 and later' },
      EINVAL: { result: 'no', kernels: 'before 6.1, or without transparent huge pages of shmem' },
    },
    ask: collapse,
  },
  {
    id: 'memfd.hugetlb.fault',
    description: 'a page of a hugetlb memfd can be written',
    since: '4.14',
    needs: ['freeHugePage'],
    outcomes: always('written', '4.14'),
    ask: (scene) => scene.access(scene.hugetlb().mapping, 0, true),
  },
  {
    id: 'memfd.hugetlb.noPage',
    description: 'a hugetlb page that cannot be had, because the pool is empty, is SIGBUS',
    since: '4.14',
    needs: ['noFreeHugePage'],
    outcomes: always('SIGBUS, si_code 2', '4.14'),
    ask: (scene) => scene.access(scene.hugetlb().mapping, 0, true),
  },
];

const MADV_POPULATE_WRITE = 23;
const MADV_COLLAPSE = 25;
const MAP_SHARED_FIXED = 0x11;

function collapse(scene: Scene): Evidence {
  const enabled = scene.kernel.readText('/sys/kernel/mm/transparent_hugepage/shmem_enabled')?.trim() ?? 'absent';
  const memfd = scene.memfd(HUGE_2M / scene.page);
  return { ...collapseAt(scene, memfd.fd), shmemEnabled: /\[(\w+)\]/.exec(enabled)?.[1] ?? enabled };
}

/** Of 2 MiB. Where the mapping begins, and where in the file, must be multiples of the huge page. */
export function collapseAt(scene: Scene, fd: number): Evidence {
  const room = scene.range((2 * HUGE_2M) / scene.page);
  const start = Math.ceil(Number(room.address) / HUGE_2M) * HUGE_2M;
  scene.call('mmap', start, HUGE_2M, 3, MAP_SHARED_FIXED, fd, 0);
  scene.call('madvise', start, HUGE_2M, MADV_POPULATE_WRITE);
  // EAGAIN says that a page was in use at that moment (madvise(2)): somebody else's compaction, say.
  let collapsed = 'EAGAIN';
  for (let attempt = 0; attempt < 10 && collapsed === 'EAGAIN'; attempt++)
    collapsed = outcomeName(scene.call('madvise', start, HUGE_2M, MADV_COLLAPSE));
  const mapped = smapsField(scene, start, 'ShmemPmdMapped');
  const seen = collapsed === 'ok' ? (mapped === '2048' ? 'a huge page' : 'ok, no huge page') : collapsed;
  return { seen, ShmemPmdMapped: mapped };
}

export const memfd: readonly Probe[] = [
  ...flags,
  seal('seal', '3.17'),
  seal('shrink', '3.17'),
  seal('grow', '3.17'),
  seal('write', '3.17'),
  seal('futureWrite', '5.1'),
  seal('exec', '6.3'),
  huge('default'),
  ...sizes.map(huge),
  ...behaviour,
];
