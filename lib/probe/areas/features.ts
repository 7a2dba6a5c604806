// UFFDIO_API: which features there are, and the rules of the handshake.
import { outcomeName } from '../kernel.js';
import { openAny } from '../openings.js';
import { NotThere, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import { Feature, type FeatureName, featureNames, unknownFeatures } from '../../userfaultfd/features.js';

const versions: Record<FeatureName, string> = {
  pagefaultFlagWp: '5.7',
  eventFork: '4.11',
  eventRemap: '4.11',
  eventRemove: '4.11',
  missingHugetlbfs: '4.11',
  missingShmem: '4.11',
  eventUnmap: '4.11',
  sigbus: '4.14',
  threadId: '4.14',
  minorHugetlbfs: '5.13',
  minorShmem: '5.14',
  exactAddress: '5.18',
  wpHugetlbfsShmem: '5.19',
  wpUnpopulated: '6.4',
  poison: '6.6',
  wpAsync: '6.7',
  move: '6.8',
  rwp: '7.3',
  rwpAsync: '7.3',
};
/** No feature bit: refused by every kernel up to 7.3. */
const UNKNOWN_FEATURE = 1n << 62n;

/** The features and ioctls offered. @throws NotThere */
function offered(scene: Scene): [features: bigint, ioctls: bigint] {
  const api = scene.subject(openAny(scene.kernel).fd).handshake(0n);
  if (typeof api === 'number') throw new NotThere({ seen: outcomeName(api) }, 'UFFDIO_API');
  return api;
}

function feature(name: FeatureName): Probe {
  const since = versions[name];
  return {
    id: `uffd.feature.${name}`,
    description: `the feature ${name} is offered`,
    since,
    needs: ['userfaultfd'],
    outcomes: {
      offered: { result: 'yes', kernels: `${since} and later` },
      'not offered': { result: 'no', kernels: `before ${since}, or built without it` },
    },
    ask: (scene) => ({
      seen: (offered(scene)[0] & Feature[name]) === 0n ? 'not offered' : 'offered',
      bit: Feature[name].toString(2).length - 1,
    }),
  };
}

export const features: readonly Probe[] = [
  {
    id: 'uffd.api',
    description: 'UFFDIO_API tells features and ioctls, all of which have a name here',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: {
      named: { result: 'yes', kernels: 'up to 7.3' },
      'unknown features': { result: 'differs', kernels: 'later than 7.3', means: 'see the bits in the evidence' },
    },
    ask: (scene) => {
      const [all, ioctls] = offered(scene);
      const unknown = unknownFeatures(all);
      return {
        seen: unknown === 0n ? 'named' : 'unknown features',
        features: `0x${all.toString(16)}`,
        ioctls: `0x${ioctls.toString(16)}`,
        names: [...featureNames(all)].join(' '),
        ...(unknown !== 0n && { unknown: `0x${unknown.toString(16)}` }),
      };
    },
  },
  ...(Object.keys(versions) as FeatureName[]).map(feature),
  {
    id: 'uffd.apiTwice',
    description: 'the first handshake fixes the features: a second one is refused',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('EINVAL', '4.3'),
    ask: (scene) => {
      const again = scene.userfaultfd().handshake(0n);
      return typeof again === 'number' ? outcomeName(again) : 'ok';
    },
  },
  {
    id: 'uffd.apiRetryAfterError',
    description: 'after a handshake that failed, one with known features succeeds',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: {
      ...always('ok', '4.3'),
      EINVAL: { result: 'no', kernels: 'none known', means: 'open a new descriptor for each attempt' },
    },
    ask: (scene) => {
      const subject = scene.subject(openAny(scene.kernel).fd);
      const first = subject.handshake(UNKNOWN_FEATURE);
      const second = subject.handshake(0n);
      const name = (api: typeof first) => (typeof api === 'number' ? outcomeName(api) : 'ok');
      return { seen: name(second), unknownFeature: name(first) };
    },
  },
  {
    id: 'uffd.eventForkCap',
    description: 'this process may ask for eventFork',
    since: '4.11',
    needs: ['userfaultfd'],
    outcomes: { ...always('ok', '4.11'), EINVAL: { result: 'no', kernels: 'before 4.11' } },
    ask: (scene) => {
      scene.userfaultfd(['eventFork']);
      return 'ok';
    },
  },
];
