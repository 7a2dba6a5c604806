// NUMA policy of memory: mbind(2) and get_mempolicy(2).
import type { Mapping } from '../../memory/mapping.js';
import type { MemoryPolicy } from '../../memory/mempolicy.js';
import { errnoOf, outcomeName } from '../kernel.js';
import { unlessFiltered } from '../needs.js';
import { type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import { mappedGuestMemfd } from './guest-memfd.js';

const ONLINE = '/sys/devices/system/node/online';

function set(scene: Scene, mapping: Mapping, policy: MemoryPolicy): string {
  try {
    mapping.setPolicy(policy);
    return 'ok';
  } catch (error) {
    return unlessFiltered(scene.kernel, 'mbind', errnoOf(error));
  }
}

function policyOf(mapping: Mapping): string {
  const { mode, nodes } = mapping.policyAt(0);
  return [mode, ...nodes].join(' ');
}

/** A node that is online. */
function someNode(scene: Scene): number {
  return Number.parseInt(scene.kernel.readText(ONLINE) ?? '0');
}

const noNuma = { ENOSYS: { result: 'no', kernels: 'without CONFIG_NUMA' } } as const;

export const numa: readonly Probe[] = [
  {
    id: 'numa.nodes',
    description: 'the machine has several NUMA nodes',
    since: '2.6',
    needs: [],
    outcomes: {
      several: { result: 'yes', kernels: 'all' },
      one: { result: 'no', kernels: 'all', means: 'policies can be set, and change nothing' },
      none: { result: 'no', kernels: 'without CONFIG_NUMA' },
    },
    ask: ({ kernel }) => {
      const online = kernel.readText(ONLINE)?.trim();
      if (online === undefined) return 'none';
      return { seen: /[-,]/.test(online) ? 'several' : 'one', online };
    },
  },
  {
    id: 'mbind.memfd',
    description: 'a mapping of a memfd takes a policy, and tells it',
    since: '2.6.7',
    needs: [],
    outcomes: { ...always('ok, bind', '2.6.7'), ...noNuma },
    ask: (scene) => {
      const { mapping } = scene.shared();
      const result = set(scene, mapping, { mode: 'bind', nodes: [someNode(scene)] });
      if (result !== 'ok') return result;
      return { seen: `ok, ${mapping.policyAt(0).mode}`, policy: policyOf(mapping) };
    },
  },
  {
    id: 'mbind.sharedAcrossMappings.memfd',
    description: 'the policy belongs to the memfd: another mapping of it has it too',
    since: '2.6.7',
    needs: [],
    outcomes: {
      bind: { result: 'yes', kernels: '2.6.7 and later' },
      default: { result: 'no', kernels: 'none known', means: 'each mapping has a policy of its own' },
      ...noNuma,
    },
    ask: (scene) => {
      const { memfd, mapping } = scene.shared();
      const result = set(scene, mapping, { mode: 'bind', nodes: [someNode(scene)] });
      return result === 'ok' ? scene.map(memfd).policyAt(0).mode : result;
    },
  },
  {
    id: 'mbind.sharedAcrossMappings.gmem',
    description: 'the policy belongs to the guest_memfd: another mapping of it has it too, and allocation follows it',
    since: '6.19',
    needs: ['kvm'],
    outcomes: {
      bind: { result: 'yes', kernels: '6.19 and later' },
      default: { result: 'no', kernels: '6.18', means: 'mbind(2) says 0 and does nothing: pages come from any node' },
      ...noNuma,
    },
    ask: (scene) => {
      const { fd, mapping } = mappedGuestMemfd(scene);
      const result = set(scene, mapping, { mode: 'bind', nodes: [someNode(scene)] });
      if (result !== 'ok') return result;
      return scene.mapFile(fd, { lengthBytes: mapping.lengthBytes }).policyAt(0).mode;
    },
  },
  {
    id: 'move_pages.gmem',
    description: 'move_pages(2) tells the node that a page of guest_memfd is on',
    since: '6.18',
    needs: ['kvm'],
    outcomes: { ...always('a node', '6.18'), ...noNuma },
    ask: async (scene) => {
      const { mapping } = mappedGuestMemfd(scene);
      await scene.access(mapping, 0, true);
      const status = new Int32Array(1);
      const asked = scene.call('move_pages', 0, 1, BigUint64Array.of(mapping.address), 0, status, 0);
      if (asked < 0) return unlessFiltered(scene.kernel, 'move_pages', outcomeName(asked));
      return status[0]! < 0 ? outcomeName(status[0]!) : { seen: 'a node', node: status[0]! };
    },
  },
  {
    id: 'mbind.weightedInterleave',
    description: 'the policy weightedInterleave is there',
    since: '6.9',
    needs: [],
    outcomes: {
      ok: { result: 'yes', kernels: '6.9 and later' },
      EINVAL: { result: 'no', kernels: 'before 6.9' },
      ...noNuma,
    },
    ask: (scene) => set(scene, scene.shared().mapping, { mode: 'weightedInterleave', nodes: [someNode(scene)] }),
  },
  {
    id: 'mbind.badNode',
    description: 'a node that does not exist is refused',
    since: '2.6.7',
    needs: [],
    outcomes: { ...always('EINVAL', '2.6.7'), ...noNuma },
    ask: (scene) => set(scene, scene.shared().mapping, { mode: 'bind', nodes: [63] }),
  },
];
