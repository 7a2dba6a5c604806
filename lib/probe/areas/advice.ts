// Advice: what madvise(2) does to pages of this process, guards among them, and process_madvise(2) to those of others.
import type { AdviceName } from '../../memory/advice.js';
import type { Mapping } from '../../memory/mapping.js';
import { pageEntries } from '../../memory/pagemap.js';
import { errnoOf, outcomeName } from '../kernel.js';
import { unlessFiltered } from '../needs.js';
import { NotAsked, NotThere, type Probe, always, supported } from '../probe.js';
import type { Scene } from '../scene.js';

/** Of the first pages of a mapping: `ok`, or the name of the errno. */
export function advise(mapping: Mapping, advice: AdviceName, pages: number): string {
  try {
    mapping.advise(advice, 0, pages * mapping.pageSize);
    return 'ok';
  } catch (error) {
    return errnoOf(error);
  }
}

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

export const guards: readonly Probe[] = [
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

export const advice: readonly Probe[] = [
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
