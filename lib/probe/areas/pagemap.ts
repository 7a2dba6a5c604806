// What can be seen of pages.
import type { Mapping } from '../../memory/mapping.js';
import { type PageCategory, clearSoftDirty, scanPages } from '../../memory/pagemap.js';
import type { RegisterModeName } from '../../memory/kinds/kind.js';
import { Feature } from '../../userfaultfd/features.js';
import { errnoOf, openPath } from '../kernel.js';
import { openAny } from '../openings.js';
import { NotThere, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import { advice, advise, guards } from './advice.js';
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
