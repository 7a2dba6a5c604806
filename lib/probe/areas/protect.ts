// Write protection, and the read and write protection of Linux 7.3.
import type { Mapping } from '../../memory/mapping.js';
import { scanPages } from '../../memory/pagemap.js';
import { Feature, type FeatureName } from '../../userfaultfd/features.js';
import type { RegisterModeName } from '../../memory/kinds/kind.js';
import { outcomeName } from '../kernel.js';
import { NotThere, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import type { Subject } from '../subject.js';
import { must } from './answers.js';
import { reasonOf } from './minor.js';

const PROTECT = 1;

function registeredAs(
  scene: Scene,
  mapping: Mapping,
  modes: RegisterModeName[],
  features: FeatureName[] = [],
): Subject {
  const subject = scene.userfaultfd(features);
  const mask = subject.register(mapping, modes);
  if (mask < 0) throw new NotThere({ seen: outcomeName(mask) }, `registering with ${modes.join(', ')}`);
  return subject;
}

/** Protects a page, accesses it, takes the protection away: the fault, and what became of the access. */
async function faultThenGo(scene: Scene, subject: Subject, mapping: Mapping, write: boolean): Promise<string> {
  const answer = write ? 'writeprotect' : 'rwprotect';
  must(subject.answer(answer, mapping, { mode: PROTECT }), `UFFDIO_${answer.toUpperCase()}`);
  const accessing = scene.access(mapping, 0, write);
  const reason = reasonOf((await subject.messages())[0]);
  subject.answer(answer, mapping, { mode: 0 });
  return `${reason}, ${(await scene.within(accessing, 500)) ?? 'asleep'}`;
}

async function populated(scene: Scene): Promise<Mapping> {
  const mapping = scene.anonymous();
  await scene.access(mapping, 0, true);
  return mapping;
}

const writeProtection: readonly Probe[] = [
  {
    id: 'wp.anon',
    description: 'a write to a write-protected page of anonymous memory waits for an answer',
    since: '5.7',
    needs: ['userfaultfd'],
    outcomes: always('wp, written', '5.7'),
    ask: async (scene) => {
      const mapping = await populated(scene);
      return faultThenGo(scene, registeredAs(scene, mapping, ['wp']), mapping, true);
    },
  },
  {
    id: 'wp.shmemHole',
    description: 'pages of a memfd can be write-protected before they are there',
    since: '5.19',
    needs: ['userfaultfd'],
    outcomes: always('wp, written', '5.19'),
    ask: (scene) => {
      const { mapping } = scene.shared();
      return faultThenGo(scene, registeredAs(scene, mapping, ['wp']), mapping, true);
    },
  },
  {
    id: 'wp.unpopulated',
    description:
      'with the feature wpUnpopulated, pages of anonymous memory can be write-protected before they are there',
    since: '6.4',
    needs: ['userfaultfd'],
    outcomes: always('wp, written', '6.4'),
    ask: (scene) => {
      const mapping = scene.anonymous();
      return faultThenGo(scene, registeredAs(scene, mapping, ['wp'], ['wpUnpopulated']), mapping, true);
    },
  },
  {
    id: 'wp.async',
    description: 'with the feature wpAsync the kernel notes writes to protected pages, without a message',
    since: '6.7',
    needs: ['userfaultfd'],
    outcomes: always('no message, written, 1 page noted', '6.7'),
    ask: async (scene) => {
      const mapping = await populated(scene);
      const subject = registeredAs(scene, mapping, ['wp'], ['wpAsync']);
      must(subject.answer('writeprotect', mapping, { mode: PROTECT, pages: 4 }), 'UFFDIO_WRITEPROTECT');
      const access = (await scene.within(scene.access(mapping, 0, true), 500)) ?? 'asleep';
      const noted = [...scanPages(mapping, { allOf: ['written'] })].reduce((sum, run) => sum + run.lengthBytes, 0);
      return `${reasonOf(subject.read()[0])}, ${access}, ${noted / scene.page} page noted`;
    },
  },
];

const readWriteProtection: readonly Probe[] = [
  {
    id: 'rwp.sync',
    description: 'a read of a page protected by UFFDIO_RWPROTECT waits for an answer',
    since: '7.3',
    needs: ['userfaultfd'],
    outcomes: always('rwp, read 119', '7.3'),
    ask: async (scene) => {
      const mapping = await populated(scene);
      return faultThenGo(scene, registeredAs(scene, mapping, ['rwp'], ['rwp']), mapping, false);
    },
  },
  {
    id: 'rwp.async',
    description: 'with the feature rwpAsync the kernel notes accesses to protected pages, without a message',
    since: '7.3',
    needs: ['userfaultfd'],
    outcomes: always('no message, read 119', '7.3'),
    ask: async (scene) => {
      const mapping = await populated(scene);
      const subject = registeredAs(scene, mapping, ['rwp'], ['rwp', 'rwpAsync']);
      must(subject.answer('rwprotect', mapping, { mode: PROTECT }), 'UFFDIO_RWPROTECT');
      const access = (await scene.within(scene.access(mapping, 0), 500)) ?? 'asleep';
      return `${reasonOf(subject.read()[0])}, ${access}`;
    },
  },
  {
    id: 'rwp.setMode',
    description: 'UFFDIO_SET_MODE switches rwpAsync on while a thread waits, and wakes it',
    since: '7.3',
    needs: ['userfaultfd'],
    outcomes: always('rwp, ok, read 119', '7.3'),
    ask: async (scene) => {
      const mapping = await populated(scene);
      const subject = registeredAs(scene, mapping, ['rwp'], ['rwp']);
      must(subject.answer('rwprotect', mapping, { mode: PROTECT }), 'UFFDIO_RWPROTECT');
      const access = scene.access(mapping, 0);
      const reason = reasonOf((await subject.messages())[0]);
      const switched = outcomeName(subject.setMode(Feature.rwpAsync, 0n));
      return `${reason}, ${switched}, ${(await scene.within(access, 500)) ?? 'asleep'}`;
    },
  },
  {
    id: 'rwp.wpExclusive',
    description: 'wp and rwp of the same memory exclude each other',
    since: '7.3',
    needs: ['userfaultfd'],
    outcomes: always('EINVAL', '7.3'),
    ask: (scene) => {
      const subject = scene.userfaultfd(['rwp']);
      return outcomeName(subject.register(scene.anonymous(), ['wp', 'rwp']));
    },
  },
];

export const protect: readonly Probe[] = [...writeProtection, ...readWriteProtection];
