// MINOR faults and UFFDIO_CONTINUE: pages that are in the page cache and not mapped.
import type { Mapping } from '../../memory/mapping.js';
import type { Memfd } from '../../memory/memfd.js';
import { pageEntries } from '../../memory/pagemap.js';
import type { RegisterModeName } from '../../memory/kinds/kind.js';
import type { FaultEvent } from '../../userfaultfd/events.js';
import { bytesOrErrno, outcomeName } from '../kernel.js';
import { NotThere, type Probe, always } from '../probe.js';
import { HUGE_2M, type Scene } from '../scene.js';
import type { Subject } from '../subject.js';
import { smapsField } from '../smaps.js';
import { done, missingAnonymous } from './answers.js';

interface Shared {
  readonly subject: Subject;
  readonly memfd: Memfd;
  readonly mapping: Mapping;
}

/** A memfd registered so. @throws NotThere when this kernel does not */
export function sharedWith(scene: Scene, modes: readonly RegisterModeName[], pages = 4, shared = true): Shared {
  const { memfd, mapping } = scene.shared(pages, { shared });
  const subject = scene.userfaultfd();
  const mask = subject.register(mapping, modes);
  if (mask < 0) throw new NotThere({ seen: outcomeName(mask) }, `registering a memfd with ${modes.join(', ')}`);
  return { subject, memfd, mapping };
}

export function reasonOf(message: FaultEvent | undefined): string {
  if (message === undefined) return 'no message';
  return 'reason' in message ? message.reason : message.type;
}

const both: readonly RegisterModeName[] = ['missing', 'minor'];

function continued(
  id: string,
  description: string,
  since: string,
  outcomes: Probe['outcomes'],
  ask: Probe['ask'],
): Probe {
  return {
    id: `continue.${id}`,
    description: `UFFDIO_CONTINUE ${description}`,
    since,
    needs: ['userfaultfd'],
    outcomes,
    ask,
  };
}

const cached = (memfd: Memfd, page = 0) => memfd.write(Uint8Array.of(42), page * memfd.pageSize);

const continues: readonly Probe[] = [
  continued(
    'ok',
    'maps a page that is in the page cache, for the thread that waits',
    '5.14',
    always('minor, done, read 42', '5.14'),
    async (scene) => {
      const { subject, memfd, mapping } = sharedWith(scene, both);
      cached(memfd);
      const reading = scene.access(mapping, 0);
      const reason = reasonOf((await subject.messages())[0]);
      const result = done(subject.answer('continue', mapping), mapping);
      return [reason, result, (await scene.within(reading, 500)) ?? 'asleep'].join(', ');
    },
  ),
  continued(
    'noPage',
    'of a page that is not in the page cache is refused',
    '5.14',
    always('EFAULT', '5.14'),
    (scene) => {
      const { subject, mapping } = sharedWith(scene, both);
      return done(subject.answer('continue', mapping), mapping);
    },
  ),
  continued('eexist', 'of a page that is mapped is refused', '5.14', always('EEXIST', '5.14'), (scene) => {
    const { subject, memfd, mapping } = sharedWith(scene, both);
    cached(memfd);
    const first = subject.answer('continue', mapping);
    if (first < 0) return bytesOrErrno(first);
    return done(subject.answer('continue', mapping), mapping);
  }),
  continued(
    'pastEof',
    'beyond the end of the memfd says EFAULT, like COPY',
    '7.2',
    {
      EFAULT: { result: 'yes', kernels: '7.2 and later' },
      EINVAL: {
        result: 'differs',
        kernels: 'before 7.2',
        means: 'take EINVAL of a registered range for a truncated memfd',
      },
    },
    (scene) => {
      const { subject, memfd, mapping } = sharedWith(scene, both);
      memfd.resize(scene.page);
      return done(subject.answer('continue', mapping, { page: 2 }), mapping);
    },
  ),
  continued('missingOnly', 'works where only missing pages are registered', '5.14', always('done', '5.14'), (scene) => {
    const { subject, memfd, mapping } = sharedWith(scene, ['missing']);
    cached(memfd);
    return done(subject.answer('continue', mapping), mapping);
  }),
  continued(
    'private',
    'to a private mapping maps the page copied on write',
    '5.14',
    always('done, file unchanged', '5.14'),
    async (scene) => {
      const { subject, memfd, mapping } = sharedWith(scene, both, 4, false);
      cached(memfd);
      const result = done(subject.answer('continue', mapping), mapping);
      const written = await scene.within(scene.access(mapping, 0, true), 500);
      const file = await scene.access(scene.map(memfd), 0);
      const changed = file === 'read 42' ? 'file unchanged' : 'file changed';
      return { seen: `${result}, ${written === 'written' ? changed : (written ?? 'asleep')}`, file };
    },
  ),
  continued(
    'wpMode',
    'can map a page write-protected',
    '6.4',
    { ...always('done, wp', '6.4'), EINVAL: { result: 'no', kernels: 'before 6.4' } },
    async (scene) => {
      const { subject, memfd, mapping } = sharedWith(scene, [...both, 'wp']);
      cached(memfd);
      const result = subject.answer('continue', mapping, { mode: 2 });
      if (result < 0) return bytesOrErrno(result);
      void scene.access(mapping, 0, true);
      return `${done(result, mapping)}, ${reasonOf((await subject.messages())[0])}`;
    },
  ),
  continued(
    'anon',
    'maps pages of private anonymous memory',
    'never',
    {
      done: { result: 'yes', kernels: 'none up to 7.3' },
      EINVAL: { result: 'no', kernels: '5.13 and later', means: 'there is no page cache behind it; use copy' },
    },
    (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      return done(subject.answer('continue', mapping), mapping);
    },
  ),
  continued(
    'thp',
    'of 2 MiB in one call maps them, page by page',
    '5.14',
    {
      'done, by pages': { result: 'yes', kernels: '5.14 and later' },
      'done, as a huge page': { result: 'differs', kernels: 'none known', means: 'fewer page tables than expected' },
    },
    (scene) => {
      const pages = HUGE_2M / scene.page;
      const { subject, memfd, mapping } = sharedWith(scene, both, pages);
      memfd.write(new Uint8Array(HUGE_2M), 0);
      const result = done(subject.answer('continue', mapping, { pages }), mapping, pages);
      const huge = smapsField(scene, Number(mapping.address), 'ShmemPmdMapped');
      return `${result}, ${huge === '0' ? 'by pages' : 'as a huge page'}`;
    },
  ),
];

const faults: readonly Probe[] = [
  {
    id: 'minor.hole',
    description:
      'a hole is filled with zeroes without a message where only minor is registered; with missing it is reported',
    since: '5.14',
    needs: ['userfaultfd'],
    outcomes: always('no message, read 0; missing', '5.14'),
    ask: async (scene) => {
      const alone = sharedWith(scene, ['minor']);
      const read = await scene.within(scene.access(alone.mapping, 0), 500);
      const [message] = alone.subject.read();
      const { subject, mapping } = sharedWith(scene, both);
      void scene.access(mapping, 0);
      return `${reasonOf(message)}, ${read ?? 'asleep'}; ${reasonOf((await subject.messages())[0])}`;
    },
  },
  {
    id: 'minor.fallocated',
    description: 'a page that fallocate(2) has made is a minor fault, though nobody has written it',
    since: '5.14',
    needs: ['userfaultfd'],
    outcomes: always('minor', '5.14'),
    ask: async (scene) => {
      const { subject, memfd, mapping } = sharedWith(scene, both);
      memfd.allocate(0, scene.page);
      void scene.access(mapping, 0);
      return reasonOf((await subject.messages())[0]);
    },
  },
  {
    id: 'minor.punchWhilePending',
    description: 'a page punched out while a minor fault waits: CONTINUE fails, and after a WAKE it is a missing fault',
    since: '5.14',
    needs: ['userfaultfd'],
    outcomes: always('minor, EFAULT, missing', '5.14'),
    ask: async (scene) => {
      const { subject, memfd, mapping } = sharedWith(scene, both);
      cached(memfd);
      void scene.access(mapping, 0);
      const first = reasonOf((await subject.messages())[0]);
      memfd.punchHole(0, scene.page);
      const result = done(subject.answer('continue', mapping), mapping);
      subject.answer('wake', mapping);
      return [first, result, reasonOf((await subject.messages())[0])].join(', ');
    },
  },
  {
    id: 'minor.faultAround',
    description:
      'missing alone still maps cached neighbours of a page without a message; with minor only what is continued',
    since: '5.14',
    needs: ['userfaultfd'],
    outcomes: {
      'neighbours; 1': { result: 'yes', kernels: '5.14 and later' },
      '1; 1': { result: 'differs', kernels: 'with fault_around_bytes of a page', means: 'no neighbours are mapped' },
    },
    ask: async (scene) => {
      const pages = 64;
      const count = async (modes: readonly RegisterModeName[]) => {
        const { subject, memfd, mapping } = sharedWith(scene, modes, pages);
        memfd.write(new Uint8Array(pages * scene.page), 0);
        const reading = scene.access(mapping, pages / 2);
        if (modes.includes('minor')) {
          await subject.messages();
          subject.answer('continue', mapping, { page: pages / 2 });
        }
        await scene.within(reading, 500);
        return pageEntries(mapping).filter(({ present }) => present).length;
      };
      const [missing, minor] = [await count(['missing']), await count(both)];
      return { seen: `${missing > 1 ? 'neighbours' : missing}; ${minor}`, missing, minor };
    },
  },
];

export const minor: readonly Probe[] = [...continues, ...faults];
