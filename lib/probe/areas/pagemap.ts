// What can be seen of pages, guards, and advice to other processes.
import { type AdviceName, type Mapping } from '../../memory/mapping.js';
import { type PageCategory, clearSoftDirty, pageEntries, scanPages } from '../../memory/pagemap.js';
import type { RegisterModeName } from '../../memory/kinds/kind.js';
import { Feature } from '../../userfaultfd/features.js';
import { errnoOf, openPath, outcomeName } from '../kernel.js';
import { unlessFiltered } from '../needs.js';
import { openAny } from '../openings.js';
import { NotAsked, NotThere, type Probe, always, supported } from '../probe.js';
import type { Scene } from '../scene.js';
import { must } from './answers.js';
import { smapsField } from '../smaps.js';

function scan(mapping: Mapping, categories: PageCategory[], writeProtect = false): string {
  try {
    const runs = [...scanPages(mapping, { anyOf: categories, writeProtect })];
    return `${runs.reduce((pages, run) => pages + run.lengthBytes, 0) / mapping.pageSize} of ${mapping.lengthBytes / mapping.pageSize}`;
  } catch (error) {
    return errnoOf(error);
  }
}

function advise(mapping: Mapping, advice: AdviceName, pages: number): string {
  try {
    mapping.advise(advice, 0, pages * mapping.pageSize);
    return 'ok';
  } catch (error) {
    return errnoOf(error);
  }
}

const PFN_MASK = (1n << 55n) - 1n;
const SOFT_DIRTY = 1n << 55n;

/** The pagemap entry of the first page. */
function entryOf(scene: Scene, mapping: Mapping): bigint {
  const fd = scene.descriptor(openPath(scene.kernel, '/proc/self/pagemap', false));
  scene.call('lseek', fd, (Number(mapping.address) / scene.page) * 8, 0);
  const entry = new BigUint64Array(1);
  scene.call('read', fd, entry, 8);
  return entry[0]!;
}

/** Four pages that are there and protected, and one that is accessed then. */
async function accessedPages(scene: Scene): Promise<string> {
  const mapping = scene.anonymous();
  const known = scan(mapping, ['accessed']);
  if (!known.includes(' of ')) return known;
  mapping.populate('write');
  const subject = scene.userfaultfd(['rwp', 'rwpAsync']);
  subject.registered(mapping, ['rwp']);
  must(subject.answer('rwprotect', mapping, { mode: 1, pages: 4 }), 'UFFDIO_RWPROTECT');
  await scene.access(mapping, 2);
  return scan(mapping, ['accessed']);
}

const pagemapProbes: readonly Probe[] = [
  {
    id: 'pagemap.scan',
    description: 'PAGEMAP_SCAN finds the pages that are there',
    since: '6.7',
    needs: [],
    outcomes: { ...always('1 of 4', '6.7'), ENOTTY: { result: 'no', kernels: 'before 6.7' } },
    ask: async (scene) => {
      const mapping = scene.anonymous();
      await scene.access(mapping, 0, true);
      return scan(mapping, ['present']);
    },
  },
  {
    id: 'pagemap.wpMatching',
    description:
      'PAGEMAP_SCAN protects again what it finds, of memory registered with wpAsync, and refuses other memory',
    since: '6.7',
    needs: ['userfaultfd'],
    outcomes: { ...always('EPERM, 1 of 4, then 0 of 4', '6.7'), ENOTTY: { result: 'no', kernels: 'before 6.7' } },
    ask: async (scene) => {
      const sync = scene.anonymous();
      await scene.access(sync, 0, true);
      const refused = scan(sync, ['written'], true);
      if (refused === 'ENOTTY') return refused;
      const mapping = scene.anonymous();
      const subject = scene.userfaultfd(['wpAsync']);
      subject.registered(mapping, ['wp']);
      subject.answer('writeprotect', mapping, { mode: 1, pages: 4 });
      await scene.access(mapping, 0, true);
      const first = scan(mapping, ['written'], true);
      return `${refused}, ${first}, then ${scan(mapping, ['written'])}`;
    },
  },
  {
    id: 'pagemap.guardCategory',
    description: 'PAGEMAP_SCAN finds guard pages',
    since: '6.15',
    needs: [],
    outcomes: { ...always('1 of 4', '6.15'), EINVAL: { result: 'no', kernels: 'before 6.15' } },
    ask: (scene) => {
      const mapping = scene.anonymous();
      const installed = advise(mapping, 'guardInstall', 1);
      if (installed !== 'ok') throw new NotThere({ seen: installed }, 'MADV_GUARD_INSTALL (Linux 6.13)');
      return scan(mapping, ['guard']);
    },
  },
  {
    id: 'pagemap.accessedCategory',
    description: 'PAGEMAP_SCAN finds the pages that were accessed, of memory protected with rwpAsync',
    since: '7.3',
    needs: ['userfaultfd'],
    outcomes: {
      ...always('1 of 4', '7.3'),
      EINVAL: { result: 'no', kernels: 'before 7.3' },
      ENOTTY: { result: 'no', kernels: 'before 6.7' },
    },
    ask: accessedPages,
  },
  {
    id: 'pagemap.pfnVisible',
    description: 'pagemap has page frame numbers',
    since: '2.6.25',
    needs: [],
    outcomes: {
      visible: { result: 'yes', kernels: 'all' },
      hidden: {
        result: 'no',
        kernels: '4.2 and later without CAP_SYS_ADMIN',
        means: 'they read as 0 without CAP_SYS_ADMIN',
      },
    },
    ask: async (scene) => {
      const mapping = scene.anonymous();
      await scene.access(mapping, 0, true);
      return (entryOf(scene, mapping) & PFN_MASK) === 0n ? 'hidden' : 'visible';
    },
  },
  {
    id: 'pagemap.softDirty',
    description: 'soft-dirty tracking tells which pages were written',
    since: '3.11',
    needs: [],
    outcomes: {
      'clean, dirty': { result: 'yes', kernels: '3.11 and later with CONFIG_MEM_SOFT_DIRTY' },
      'clean, clean': { result: 'no', kernels: 'without CONFIG_MEM_SOFT_DIRTY', means: 'use wpAsync' },
    },
    ask: async (scene) => {
      const mapping = scene.anonymous();
      await scene.access(mapping, 0, true);
      const state = () => ((entryOf(scene, mapping) & SOFT_DIRTY) === 0n ? 'clean' : 'dirty');
      clearSoftDirty();
      const before = state();
      await scene.access(mapping, 0, true);
      return `${before}, ${state()}`;
    },
  },
];

function guard(memory: 'anon' | 'shmem', since: string): Probe {
  return {
    id: `guard.${memory}`,
    description: `MADV_GUARD_INSTALL makes an access to a page of ${memory === 'anon' ? 'anonymous' : 'shared'} memory SIGSEGV`,
    since,
    needs: [],
    outcomes: {
      'SIGSEGV, si_code 1': { result: 'yes', kernels: `${since} and later` },
      'SIGSEGV, si_code 2': { result: 'yes', kernels: `${since} and later` },
      EINVAL: { result: 'no', kernels: `before ${since}` },
    },
    ask: (scene) => {
      const mapping = memory === 'anon' ? scene.anonymous() : scene.shared().mapping;
      const installed = advise(mapping, 'guardInstall', 1);
      return installed === 'ok' ? scene.access(mapping, 0) : installed;
    },
  };
}

const guards: readonly Probe[] = [
  guard('anon', '6.13'),
  guard('shmem', '6.15'),
  {
    id: 'guard.mlocked',
    description: 'MADV_GUARD_INSTALL of locked memory is refused',
    since: '6.13',
    needs: [],
    outcomes: always('EINVAL', '6.13'),
    ask: (scene) => {
      const mapping = scene.anonymous(1);
      const free = advise(scene.anonymous(1), 'guardInstall', 1);
      if (free !== 'ok') throw new NotThere({ seen: free }, 'MADV_GUARD_INSTALL (Linux 6.13)');
      const locked = scene.call('mlock', Number(mapping.address), scene.page);
      if (locked < 0) {
        const blocker = { blocker: 'resource limit', remedy: 'raise RLIMIT_MEMLOCK (ulimit -l)' } as const;
        throw NotAsked.blocked(blocker, { seen: outcomeName(locked) });
      }
      return advise(mapping, 'guardInstall', 1);
    },
  },
];

const Madvise = { willNeed: 3, dontNeed: 4, cold: 20, pageOut: 21, guardInstall: 102, unknown: 9999 } as const;
const PIDFD_SELF = -10_000;

function processMadvise(scene: Scene, pidfd: number, mapping: Mapping, length: number, advice: number): string {
  const vector = BigUint64Array.of(mapping.address, BigInt(length));
  return outcomeName(scene.call('process_madvise', pidfd, vector, 1, advice, 0));
}

/** Needs no permission. */
function adviseSelf(scene: Scene, mapping: Mapping): string {
  const done = processMadvise(scene, pidfdOf(scene, process.pid), mapping, scene.page, Madvise.dontNeed);
  return unlessFiltered(scene.kernel, 'process_madvise', done);
}

function pidfdOf(scene: Scene, pid: number): number {
  const pidfd = scene.descriptor(scene.call('pidfd_open', pid, 0));
  if (pidfd < 0) throw new NotThere({ seen: outcomeName(pidfd) }, 'pidfd_open(2)');
  return pidfd;
}

const advice: readonly Probe[] = [
  {
    id: 'process_madvise.self',
    description: 'process_madvise(2) takes any advice for the own process: MADV_DONTNEED',
    since: '6.13',
    needs: [],
    outcomes: supported('6.13', undefined, ['EINVAL', 'ENOSYS']),
    ask: (scene) => {
      return adviseSelf(scene, scene.anonymous());
    },
  },
  {
    id: 'process_madvise.pidfdSelf',
    description: 'process_madvise(2) knows the own process without a descriptor: PIDFD_SELF',
    since: '6.14',
    needs: [],
    outcomes: supported('6.14', 'open a pidfd of the own process', ['EBADF', 'ENOSYS']),
    ask: (scene) => {
      const mapping = scene.anonymous();
      adviseSelf(scene, mapping);
      return processMadvise(scene, PIDFD_SELF, mapping, scene.page, Madvise.cold);
    },
  },
  {
    id: 'process_madvise.remote',
    description:
      'process_madvise(2) of another process takes WILLNEED, COLD and PAGEOUT, and refuses DONTNEED and GUARD_INSTALL',
    since: '5.10',
    needs: [],
    outcomes: { ...always('ok, ok, ok, EINVAL, EINVAL', '5.10'), ENOSYS: { result: 'no', kernels: 'before 5.10' } },
    ask: async (scene) => {
      const mapping = scene.anonymous();
      await scene.access(mapping, 0, true);
      const pidfd = pidfdOf(scene, await scene.fork(0));
      const { willNeed, cold, pageOut, dontNeed, guardInstall } = Madvise;
      const tried = [willNeed, cold, pageOut, dontNeed, guardInstall].map((advice) =>
        processMadvise(scene, pidfd, mapping, scene.page, advice),
      );
      if (tried[0] !== 'EPERM') return tried[0] === 'ENOSYS' ? 'ENOSYS' : tried.join(', ');
      adviseSelf(scene, scene.anonymous());
      const remedy = 'process_madvise(2) of another process needs CAP_SYS_NICE';
      throw NotAsked.blocked({ blocker: 'capability', remedy }, { seen: 'EPERM' });
    },
  },
  {
    id: 'process_madvise.zeroLenBadAdvice',
    description: 'process_madvise(2) refuses unknown advice for no bytes at all',
    since: '7.2',
    needs: [],
    outcomes: {
      EINVAL: { result: 'yes', kernels: 'before 6.13; 7.2 and later' },
      ok: { result: 'differs', kernels: '6.13 to 7.1', means: 'ask with bytes whether advice is known' },
      ENOSYS: { result: 'no', kernels: 'before 5.10' },
    },
    ask: (scene) => processMadvise(scene, pidfdOf(scene, process.pid), scene.anonymous(), 0, Madvise.unknown),
  },
  {
    id: 'madv.populate',
    description: 'MADV_POPULATE_READ and MADV_POPULATE_WRITE bring pages in',
    since: '5.14',
    needs: [],
    outcomes: {
      ...always('ok, ok, 4 pages', '5.14'),
      'EINVAL, EINVAL, 0 pages': { result: 'no', kernels: 'before 5.14' },
    },
    ask: (scene) => {
      const { mapping } = scene.shared();
      const tried = (['populateRead', 'populateWrite'] as const).map((name) => advise(mapping, name, 4));
      return [...tried, `${pageEntries(mapping).filter(({ present }) => present).length} pages`].join(', ');
    },
  },
];

const flagOf: readonly (readonly [RegisterModeName, string])[] = [
  ['missing', 'um'],
  ['wp', 'uw'],
  ['minor', 'ui'],
  ['rwp', 'ur'],
];

const flags: Probe = {
  id: 'smaps.vmflags',
  description: 'VmFlags in smaps tell how memory is registered',
  since: '5.13',
  needs: ['userfaultfd'],
  outcomes: {
    'um, uw, ui, ur': { result: 'yes', kernels: '7.3 and later' },
    'um, uw, ui': { result: 'yes', kernels: '5.13 to 7.2' },
  },
  ask: (scene) => {
    const seen = flagOf.flatMap(([mode, flag]) => {
      const subject = scene.subject(openAny(scene.kernel).fd);
      if (typeof subject.handshake(Feature.rwp) === 'number') subject.handshake(0n);
      const { mapping } = scene.shared();
      if (subject.register(mapping, [mode]) < 0) return [];
      const shown = smapsField(scene, Number(mapping.address), 'VmFlags').split(' ').includes(flag);
      return shown ? [flag] : [`no ${flag}`];
    });
    return seen.join(', ');
  },
};

export const pagemap: readonly Probe[] = [...pagemapProbes, ...guards, ...advice, flags];
