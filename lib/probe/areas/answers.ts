// UFFDIO_COPY, ZEROPAGE, POISON, MOVE: what each does to which page.
import type { MemoryKind } from '../../memory/kinds/kind.js';
import type { Mapping } from '../../memory/mapping.js';
import { bytesOrErrno, errnoOf } from '../kernel.js';
import { NotThere, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import type { Subject } from '../subject.js';

/** Anonymous memory, registered for missing pages. */
export function missingAnonymous(scene: Scene, pages = 4): { subject: Subject; mapping: Mapping } {
  const subject = scene.userfaultfd();
  const mapping = scene.anonymous(pages);
  subject.registered(mapping, ['missing']);
  return { subject, mapping };
}

/** `done` when all bytes were; `n of m pages` when some; else the errno. */
export function done(result: number, mapping: { readonly pageSize: number }, pages = 1): string {
  if (result < 0) return bytesOrErrno(result);
  const count = result / mapping.pageSize;
  return count === pages ? 'done' : `${count} of ${pages} pages`;
}

/** Of an answer that a later kernel brought. @throws NotThere */
export function must(result: number, what: string): void {
  if (result < 0) throw new NotThere({ seen: bytesOrErrno(result) }, what);
}

const copies: readonly Probe[] = [
  {
    id: 'copy.basic',
    description: 'UFFDIO_COPY fills an absent page, and the thread that waits reads it',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('missing, done, read 99', '4.3'),
    ask: async (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      const reading = scene.access(mapping, 1);
      const [message] = await subject.messages();
      const reason = message !== undefined && 'reason' in message ? message.reason : 'no message';
      const copied = done(subject.answer('copy', mapping, { page: 1 }), mapping);
      return { seen: [reason, copied, (await scene.within(reading, 500)) ?? 'asleep'].join(', ') };
    },
  },
  {
    id: 'copy.eexist',
    description: 'UFFDIO_COPY never overwrites a page',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('EEXIST', '4.3'),
    ask: (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      must(subject.answer('copy', mapping), 'UFFDIO_COPY');
      return done(subject.answer('copy', mapping), mapping);
    },
  },
  {
    id: 'copy.partial',
    description: 'UFFDIO_COPY of several pages stops at the first that is there, and says how far it came',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('2 of 4 pages', '4.3'),
    ask: (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      must(subject.answer('copy', mapping, { page: 2 }), 'UFFDIO_COPY');
      return done(subject.answer('copy', mapping, { pages: 4 }), mapping, 4);
    },
  },
  {
    id: 'copy.unalignedSrc',
    description: 'UFFDIO_COPY takes bytes from anywhere, aligned or not',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('done', '4.3'),
    ask: (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      const bytes = new Uint8Array(scene.page + 1).subarray(1);
      return done(subject.answer('copy', mapping, { bytes }), mapping);
    },
  },
  {
    id: 'copy.cachedPage',
    description: 'UFFDIO_COPY to a page of a memfd that is in its page cache is refused, mapped or not',
    since: '4.11',
    needs: ['userfaultfd'],
    outcomes: always('EEXIST', '4.11'),
    ask: (scene) => {
      const { memfd, mapping } = scene.shared();
      const subject = scene.userfaultfd();
      subject.registered(mapping, ['missing']);
      memfd.write(Uint8Array.of(1), 0);
      return done(subject.answer('copy', mapping), mapping);
    },
  },
  {
    id: 'copy.overPoison',
    description: 'UFFDIO_COPY heals a poisoned page',
    since: '6.6',
    needs: ['userfaultfd'],
    outcomes: always('done', '6.6'),
    ask: (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      must(subject.answer('poison', mapping), 'UFFDIO_POISON');
      return done(subject.answer('copy', mapping), mapping);
    },
  },
  {
    id: 'copy.overGuard',
    description: 'UFFDIO_COPY leaves a guard page (MADV_GUARD_INSTALL) alone',
    since: '7.2',
    needs: ['userfaultfd'],
    outcomes: {
      EEXIST: { result: 'yes', kernels: '7.2 and later' },
      done: {
        result: 'differs',
        kernels: '6.13 to 7.1',
        means: 'the guard is overwritten: do not fill where guards may be',
      },
    },
    ask: (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      try {
        mapping.advise('guardInstall', 0, scene.page);
      } catch (error) {
        throw new NotThere({ seen: errnoOf(error) }, 'MADV_GUARD_INSTALL (Linux 6.13)');
      }
      return done(subject.answer('copy', mapping), mapping);
    },
  },
];

type Memory = 'anon' | 'shmem' | 'hugetlb';
const memories: Record<Memory, { kind: MemoryKind['name']; make: (scene: Scene) => Mapping }> = {
  anon: { kind: 'anonymous', make: (scene) => scene.anonymous() },
  shmem: { kind: 'shmem', make: (scene) => scene.shared().mapping },
  hugetlb: { kind: 'hugetlb', make: (scene) => scene.hugetlb().mapping },
};

function missing(scene: Scene, memory: Memory): { subject: Subject; mapping: Mapping } {
  const mapping = memories[memory].make(scene);
  const subject = scene.userfaultfd();
  subject.registered(mapping, ['missing']);
  return { subject, mapping };
}

function zeropage(memory: Memory, since: string, outcomes: Probe['outcomes']): Probe {
  return {
    id: `zeropage.${memory}`,
    description: `UFFDIO_ZEROPAGE fills a page of ${memories[memory].kind} memory`,
    since,
    needs: ['userfaultfd'],
    outcomes,
    ask: (scene) => {
      const { subject, mapping } = missing(scene, memory);
      return done(subject.answer('zeropage', mapping), mapping);
    },
  };
}

function poison(memory: Memory): Probe {
  return {
    id: `poison.${memory}`,
    description: `UFFDIO_POISON makes an access to a page of ${memories[memory].kind} memory a SIGBUS`,
    since: '6.6',
    needs: ['userfaultfd'],
    outcomes: {
      'SIGBUS, si_code 4': { result: 'yes', kernels: '6.6 and later with CONFIG_MEMORY_FAILURE' },
      'SIGBUS, si_code 2': { result: 'yes', kernels: '6.6 and later without CONFIG_MEMORY_FAILURE' },
    },
    ask: async (scene) => {
      const { subject, mapping } = missing(scene, memory);
      must(subject.answer('poison', mapping), 'UFFDIO_POISON');
      return (await scene.within(scene.access(mapping, 0), 500)) ?? 'asleep';
    },
  };
}

const moves: readonly Probe[] = [
  {
    id: 'move.anon',
    description: 'UFFDIO_MOVE moves a page of private anonymous memory: there it is, and here it is not',
    since: '6.8',
    needs: ['userfaultfd'],
    outcomes: always('done, read 119, source absent', '6.8'),
    ask: async (scene) => {
      const { subject, mapping, source } = await moving(scene);
      const result = subject.answer('move', mapping, { source: Number(source.address) });
      must(result, 'UFFDIO_MOVE');
      const read = await scene.within(scene.access(mapping, 0), 500);
      const left = source.mincore(0, scene.page)[0] === true ? 'source present' : 'source absent';
      return [done(result, mapping), read ?? 'asleep', left].join(', ');
    },
  },
  {
    id: 'move.holes',
    description: 'UFFDIO_MOVE leaves out holes of the source with ALLOW_SRC_HOLES, and refuses them without',
    since: '6.8',
    needs: ['userfaultfd'],
    outcomes: { ...always('ENOENT, done', '6.8'), 'EINVAL, EINVAL': { result: 'no', kernels: 'before 6.8' } },
    ask: async (scene) => {
      const { subject, mapping, source } = await moving(scene);
      const hole = Number(source.address) + scene.page;
      const strict = subject.answer('move', mapping, { source: hole });
      const allowed = subject.answer('move', mapping, { source: hole, mode: 2 });
      return `${done(strict, mapping)}, ${done(allowed, mapping)}`;
    },
  },
  {
    id: 'move.shmem',
    description: 'UFFDIO_MOVE moves pages of shared memory',
    since: 'never',
    needs: ['userfaultfd'],
    outcomes: {
      EINVAL: { result: 'no', kernels: 'up to 7.3', means: 'only private anonymous pages can be moved; copy them' },
      done: { result: 'yes', kernels: 'none up to 7.3' },
    },
    ask: (scene) => {
      const { subject, mapping } = missing(scene, 'shmem');
      const source = scene.shared();
      source.memfd.write(Uint8Array.of(1), 0);
      source.mapping.populate('read', 0, scene.page);
      return done(subject.answer('move', mapping, { source: Number(source.mapping.address) }), mapping);
    },
  },
];

async function moving(scene: Scene) {
  const { subject, mapping } = missingAnonymous(scene);
  const source = scene.anonymous();
  // MADV_NOHUGEPAGE: a page of a huge one cannot be moved alone.
  source.advise('noHugePage');
  await scene.access(source, 0, true);
  return { subject, mapping, source };
}

export const answers: readonly Probe[] = [
  ...copies,
  zeropage('anon', '4.3', always('done', '4.3')),
  zeropage('shmem', '4.11', { ...always('done', '4.11'), EINVAL: { result: 'no', kernels: 'before 4.11' } }),
  zeropage('hugetlb', 'never', {
    done: { result: 'yes', kernels: 'none up to 7.3' },
    EINVAL: { result: 'no', kernels: 'up to 7.3', means: 'there is no huge page of zeroes to share; copy zeroes' },
  }),
  poison('anon'),
  poison('shmem'),
  poison('hugetlb'),
  ...moves,
];
