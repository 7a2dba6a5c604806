// guest_memfd: making one, mapping it, and what its pages do.
import type { RegisterModeName } from '../../memory/kinds/kind.js';
import type { Mapping } from '../../memory/mapping.js';
import { fileSystemOf } from '../file-system.js';
import { outcomeName } from '../kernel.js';
import { type Probe, always, supported } from '../probe.js';
import { HUGE_2M, type Scene } from '../scene.js';
import { GuestMemfdFlags, VmSubject } from '../vm.js';
import { collapseAt } from './memfd.js';
import { withRwp } from './register.js';

const PAGES = 4;
const { none, mmap, mmapAndInitShared } = GuestMemfdFlags;
const [PROT_READ_WRITE, PROT_READ_EXEC] = [3, 5];
const [MAP_SHARED, MAP_PRIVATE] = [1, 2];
const [F_GETFD, FD_CLOEXEC] = [1, 1];
const Fallocate = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;

/** Mapped and to be touched. @throws NotThere */
export function mappedGuestMemfd(scene: Scene, vm = VmSubject.create(scene)): { fd: number; mapping: Mapping } {
  const fd = vm.guestMemfd(PAGES, mmapAndInitShared);
  return { fd, mapping: scene.mapFile(fd, { lengthBytes: PAGES * scene.page }) };
}

function gmem(id: string, description: string, since: string, outcomes: Probe['outcomes'], ask: Probe['ask']): Probe {
  return { id: `gmem.${id}`, description, since, needs: ['kvm'], outcomes, ask };
}

/** The bits that are taken, by name. */
function flagsTaken(vm: VmSubject, page: number): string {
  const names = ['mmap', 'initShared'];
  const taken = Array.from({ length: 64 }, (_, bit) => bit).filter(
    (bit) => vm.tryGuestMemfd(page, 1n << BigInt(bit)) >= 0,
  );
  return taken.map((bit) => names[bit] ?? `bit ${bit}`).join(', ') || 'none';
}

const creation: readonly Probe[] = [
  gmem(
    'create',
    'KVM_CREATE_GUEST_MEMFD gives a guest_memfd',
    '6.8',
    {
      ok: { result: 'yes', kernels: '6.8 and later' },
      ENOTTY: { result: 'no', kernels: 'before 6.8, or without CONFIG_KVM_GUEST_MEMFD' },
      EINVAL: { result: 'no', kernels: 'for VMs of this type' },
    },
    (scene) => outcomeName(VmSubject.create(scene).tryGuestMemfd(PAGES * scene.page, none)),
  ),
  gmem(
    'flags',
    'guest_memfd takes the flags mmap and initShared, found by trying each bit',
    '6.18',
    {
      'mmap, initShared': { result: 'yes', kernels: '6.18 and later' },
      mmap: {
        result: 'no',
        kernels: '6.18 and later, for VMs with private memory',
        means: 'it can be mapped, and not touched',
      },
      none: { result: 'no', kernels: 'before 6.18', means: 'it cannot be mapped' },
    },
    (scene) => flagsTaken(VmSubject.create(scene), scene.page),
  ),
  gmem(
    'sizeRules',
    'a size is whole pages, not zero, and as large as wanted: nothing is reserved',
    '6.8',
    always('EINVAL, EINVAL, ok', '6.8'),
    (scene) => {
      const vm = VmSubject.create(scene);
      vm.guestMemfd(1, none);
      return [0, scene.page - 1, 2 ** 40].map((bytes) => outcomeName(vm.tryGuestMemfd(bytes, none))).join(', ');
    },
  ),
  gmem(
    'cloexec',
    'the descriptor is closed by execve(2)',
    'never',
    {
      closed: { result: 'yes', kernels: 'none up to 7.3' },
      inherited: { result: 'no', kernels: '6.8 and later', means: 'set FD_CLOEXEC at once: it keeps the VM alive' },
    },
    (scene) => {
      const fd = VmSubject.create(scene).guestMemfd(1, none);
      return (scene.call('fcntl', fd, F_GETFD, 0) & FD_CLOEXEC) === 0 ? 'inherited' : 'closed';
    },
  ),
];

function maps(id: string, description: string, seen: string, flags: bigint, protection: number, how: number): Probe {
  return gmem(`mmap.${id}`, description, '6.18', always(seen, '6.18'), (scene) => {
    const fd = VmSubject.create(scene).guestMemfd(PAGES, flags);
    const address = scene.call('mmap', 0, PAGES * scene.page, protection, how, fd, 0);
    if (address >= 0) scene.defer(() => scene.call('munmap', address, PAGES * scene.page));
    return outcomeName(address);
  });
}

const mapping: readonly Probe[] = [
  maps('shared', 'a guest_memfd with the flag mmap can be mapped, shared', 'ok', mmap, PROT_READ_WRITE, MAP_SHARED),
  maps('private', 'a private mapping of a guest_memfd is refused', 'EINVAL', mmap, PROT_READ_WRITE, MAP_PRIVATE),
  maps('exec', 'an executable mapping of a guest_memfd is refused', 'EPERM', mmap, PROT_READ_EXEC, MAP_SHARED),
  {
    ...maps('noFlag', 'without the flag mmap a mapping is refused', 'ENODEV', none, PROT_READ_WRITE, MAP_SHARED),
    since: '6.8',
  },
  gmem(
    'initSharedTouch',
    'the pages of a guest_memfd with the flag initShared can be touched: they are zero',
    '6.18',
    always('read 0', '6.18'),
    (scene) => scene.access(mappedGuestMemfd(scene).mapping, 0),
  ),
  gmem(
    'privateTouch',
    'without the flag initShared touching one is SIGBUS',
    '6.18',
    always('SIGBUS, si_code 2', '6.18'),
    (scene) => {
      const fd = VmSubject.create(scene).guestMemfd(PAGES, mmap);
      return scene.access(scene.mapFile(fd, { lengthBytes: scene.page }), 0);
    },
  ),
  gmem('pastEof', 'touching past the end is SIGBUS', '6.18', always('SIGBUS, si_code 2', '6.18'), (scene) => {
    const fd = VmSubject.create(scene).guestMemfd(1, mmapAndInitShared);
    return scene.access(scene.mapFile(fd, { lengthBytes: 2 * scene.page }), 1);
  }),
];

const pages: readonly Probe[] = [
  gmem(
    'fallocate',
    'fallocate(2) gives memory to whole pages inside it, refuses pages past the end, and can do nothing else but punch',
    '6.8',
    always('ok, EINVAL, ENOTSUP', '6.8'),
    (scene) => {
      const fd = VmSubject.create(scene).guestMemfd(PAGES, none);
      const { keepSize, zeroRange } = Fallocate;
      const tried = [
        [keepSize, 0],
        [keepSize, PAGES],
        [zeroRange | keepSize, 0],
      ] as const;
      return tried
        .map(([mode, page]) => outcomeName(scene.call('fallocate', fd, mode, page * scene.page, scene.page)))
        .join(', ');
    },
  ),
  gmem('punchZeroes', 'a hole punched into it reads as zeroes', '6.18', always('ok, read 0', '6.18'), async (scene) => {
    const { fd, mapping } = mappedGuestMemfd(scene);
    await scene.access(mapping, 0, true);
    const { keepSize, punchHole } = Fallocate;
    const punched = outcomeName(scene.call('fallocate', fd, keepSize | punchHole, 0, scene.page));
    return `${punched}, ${await scene.access(mapping, 0)}`;
  }),
  gmem(
    'readWrite',
    'read(2) and write(2) of it work',
    'never',
    {
      works: { result: 'yes', kernels: 'none up to 7.3' },
      refused: { result: 'no', kernels: '6.8 and later', means: 'map it, and write through the mapping' },
    },
    (scene) => {
      const fd = VmSubject.create(scene).guestMemfd(PAGES, none);
      const tried = ['read', 'write'].map((name) => scene.call(name, fd, new Uint8Array(8), 8));
      const [read, write] = tried.map(outcomeName);
      return { seen: tried.every((result) => result < 0) ? 'refused' : 'works', read: read!, write: write! };
    },
  ),
  gmem(
    'statfsMagic',
    'fstatfs(2) tells a guest_memfd by a magic number of its own',
    '6.19',
    {
      GMEM: { result: 'yes', kernels: '6.19 and later' },
      'anonymous inode': { result: 'no', kernels: 'before 6.19', means: 'tell it by its link in /proc/self/fd' },
    },
    statfsMagic,
  ),
  gmem(
    'collapse',
    'MADV_COLLAPSE makes a huge page of it',
    'never',
    {
      'a huge page': { result: 'yes', kernels: 'none up to 7.3' },
      EINVAL: { result: 'no', kernels: '6.18 and later', means: 'its pages are small ones' },
    },
    (scene) => {
      const fd = VmSubject.create(scene).guestMemfd(HUGE_2M / scene.page, mmapAndInitShared);
      return collapseAt(scene, fd).seen;
    },
  ),
];

const magics: Record<string, string> = { '474d454d': 'GMEM', '9041934': 'anonymous inode' };

function statfsMagic(scene: Scene): string {
  const magic = fileSystemOf(scene, VmSubject.create(scene).guestMemfd(1, none)).toString(16);
  return magics[magic] ?? `0x${magic}`;
}

function registers(mode: RegisterModeName): Probe {
  return {
    id: `reg.guestMemfd.${mode}`,
    description: `guest_memfd can be registered with the mode ${mode}`,
    since: 'never',
    needs: ['userfaultfd', 'kvm'],
    outcomes: {
      ok: { result: 'yes', kernels: 'none up to 7.3' },
      EINVAL: { result: 'no', kernels: 'up to 7.3', means: 'no released kernel does; use a memfd as guest memory' },
    },
    ask: (scene) => {
      const { mapping } = mappedGuestMemfd(scene);
      return outcomeName((mode === 'rwp' ? withRwp(scene) : scene.userfaultfd()).register(mapping, [mode]));
    },
  };
}

export const guestMemfd: readonly Probe[] = [
  ...creation,
  ...mapping,
  ...pages,
  registers('missing'),
  registers('minor'),
  registers('wp'),
  registers('rwp'),
  {
    id: 'reg.guestMemfd.wpAsync',
    description: 'the writes of guest_memfd can be tracked: mode wp alone, with the feature wpAsync',
    since: '6.18',
    needs: ['userfaultfd', 'kvm'],
    outcomes: supported('6.18'),
    ask: (scene) => outcomeName(scene.userfaultfd(['wpAsync']).register(mappedGuestMemfd(scene).mapping, ['wp'])),
  },
];
