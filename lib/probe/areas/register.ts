// UFFDIO_REGISTER: which memory takes which mode, and when it refuses.
import { fileURLToPath } from 'node:url';
import { type MemoryKind, type RegisterModeName, explain } from '../../memory/kinds/kind.js';
import { memoryKinds } from '../../memory/kinds/kinds.js';
import { Memfd } from '../../memory/memfd.js';
import { Feature } from '../../userfaultfd/features.js';
import { outcomeName, openPath } from '../kernel.js';
import { openAny } from '../openings.js';
import { type Evidence, NotAsked, NotThere, type Outcome, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import { fileSystemOf } from '../file-system.js';
import type { Range, Subject } from '../subject.js';

const modes: readonly RegisterModeName[] = ['missing', 'wp', 'minor', 'rwp'];

/** statfs(2), f_type. */
const TMPFS_MAGIC = 0x01021994n;

function registered(subject: Subject, range: Range, wanted: readonly RegisterModeName[]): Evidence {
  const mask = subject.register(range, wanted);
  return { seen: outcomeName(mask), ...(typeof mask === 'bigint' && { ioctls: `0x${mask.toString(16)}` }) };
}

/** With the feature rwp where there is one: the mode must have been asked for. */
export function withRwp(scene: Scene): Subject {
  const subject = scene.subject(openAny(scene.kernel).fd);
  if (typeof subject.handshake(Feature.rwp) === 'number') subject.handshake(0n);
  return subject;
}

function outcomesOf(kind: MemoryKind, mode: RegisterModeName): Probe['outcomes'] {
  const support = kind.registers[mode];
  const refused: Outcome = {
    result: 'no',
    kernels: 'since' in support ? `before ${support.since}` : 'up to 7.3',
    means: explain(kind, mode, support),
  };
  const taken = 'since' in support ? `${support.since} and later` : 'none up to 7.3';
  return { ok: { result: 'yes', kernels: taken }, EINVAL: refused };
}

function matrix(name: string, kind: MemoryKind, memory: (scene: Scene) => Range): Probe[] {
  return modes.map((mode) => {
    const support = kind.registers[mode];
    return {
      id: `reg.${name}.${mode}`,
      description: `${kind.description} can be registered with the mode ${mode}`,
      since: 'since' in support && support.only === undefined ? support.since : 'never',
      needs: ['userfaultfd'],
      outcomes: outcomesOf(kind, mode),
      ask: (scene) => registered(mode === 'rwp' ? withRwp(scene) : scene.userfaultfd(), memory(scene), [mode]),
    };
  });
}

function async(name: string, kind: MemoryKind, memory: (scene: Scene) => Range): Probe {
  return {
    id: `reg.${name}.wpAsync`,
    description: `the writes of ${kind.description} can be tracked: mode wp alone, with the feature wpAsync`,
    since: '6.7',
    needs: ['userfaultfd'],
    outcomes: outcomesOf(kind, 'wp'),
    ask: (scene) => registered(scene.userfaultfd(['wpAsync']), memory(scene), ['wp']),
  };
}

/** This very script: a file of whatever file system the package lies on. */
function fileMapping(scene: Scene): Range {
  const fd = scene.descriptor(openPath(scene.kernel, fileURLToPath(import.meta.url), false));
  if (fileSystemOf(scene, fd) === TMPFS_MAGIC)
    throw NotAsked.skipped('the package lies on a tmpfs, which is shared memory');
  return scene.mapFile(fd, { lengthBytes: scene.page, shared: false });
}

function secretMapping(scene: Scene): Range {
  const fd = scene.call('memfd_secret', 0);
  if (fd < 0) throw new NotThere({ seen: outcomeName(fd) }, 'memfd_secret(2), or secretmem.enable=0');
  scene.call('close', fd);
  const secret = Memfd.createSecret({ sizeBytes: scene.page });
  scene.defer(() => {
    secret.close();
  });
  return scene.map(secret);
}

function hugeMapping(pageBytes: number, shared: boolean): (scene: Scene) => Range {
  return (scene) => scene.hugetlb(pageBytes, { shared }).mapping;
}

const refusals: readonly Probe[] = [
  {
    id: 'reg.sealWrite',
    description: 'a shared mapping of a write-sealed memfd is refused',
    since: '4.11',
    needs: ['userfaultfd'],
    outcomes: always('EPERM', '4.11'),
    ask: (scene) => {
      const memfd = scene.memfd(1);
      memfd.addSeals('write');
      return registered(scene.userfaultfd(), scene.map(memfd, { protection: 'read' }), ['missing']);
    },
  },
  {
    id: 'reg.roFd',
    description: 'a shared mapping of a read-only descriptor is refused',
    since: '4.11',
    needs: ['userfaultfd'],
    outcomes: always('EPERM', '4.11'),
    ask: (scene) => {
      const { fd } = scene.memfd(1);
      const readOnly = scene.descriptor(openPath(scene.kernel, `/proc/self/fd/${fd}`, false));
      const mapping = scene.mapFile(readOnly, { lengthBytes: scene.page, protection: 'read' });
      return registered(scene.userfaultfd(), mapping, ['missing']);
    },
  },
  {
    id: 'reg.secondUffd',
    description: 'memory that another userfaultfd has is refused',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('EBUSY', '4.3'),
    ask: (scene) => {
      const mapping = scene.anonymous();
      scene.userfaultfd().registered(mapping, ['missing']);
      return registered(scene.userfaultfd(), mapping, ['missing']);
    },
  },
  {
    id: 'reg.dropWp',
    description: 'registering again without wp is refused while wp is on',
    since: '7.3',
    needs: ['userfaultfd'],
    outcomes: {
      EBUSY: { result: 'yes', kernels: '7.3 and later' },
      ok: {
        result: 'differs',
        kernels: 'before 7.3',
        means: 'write protection is lost without a word: register with all the modes again',
      },
    },
    ask: (scene) => {
      const subject = scene.userfaultfd();
      const mapping = scene.anonymous();
      const both = subject.register(mapping, ['missing', 'wp']);
      if (both < 0) throw new NotThere({ seen: outcomeName(both) }, 'the mode wp');
      return registered(subject, mapping, ['missing']);
    },
  },
  {
    id: 'unreg.foreign',
    description: 'UFFDIO_UNREGISTER of memory that another userfaultfd has is refused',
    since: '6.17',
    needs: ['userfaultfd'],
    outcomes: {
      EINVAL: { result: 'yes', kernels: '6.17 and later' },
      ok: { result: 'differs', kernels: 'before 6.17', means: 'one userfaultfd can end the service of another' },
    },
    ask: (scene) => {
      const mapping = scene.anonymous();
      scene.userfaultfd().registered(mapping, ['missing']);
      return outcomeName(scene.userfaultfd().unregister(mapping));
    },
  },
];

export const register: readonly Probe[] = [
  ...matrix('anon', memoryKinds.anonymous, (scene) => scene.anonymous()),
  ...matrix('shmem', memoryKinds.shmem, (scene) => scene.shared().mapping),
  ...matrix('memfdPrivate', memoryKinds['memfd-private'], (scene) => scene.shared(4, { shared: false }).mapping),
  ...matrix('hugetlb2m', memoryKinds.hugetlb, hugeMapping(2 ** 21, true)),
  ...matrix('hugetlb2mPrivate', memoryKinds['hugetlb-private'], hugeMapping(2 ** 21, false)),
  ...matrix('hugetlb1g', memoryKinds.hugetlb, hugeMapping(2 ** 30, true)),
  ...matrix('file', memoryKinds.file, fileMapping),
  async('file', memoryKinds.file, fileMapping),
  ...matrix('secretmem', memoryKinds.secretmem, secretMapping),
  async('secretmem', memoryKinds.secretmem, secretMapping),
  ...refusals,
];
