// /dev/kvm, and whether a userfaultfd is given guest_memfd.
import type { RegisterModeName } from '../../memory/kinds/kind.js';
import { openPath, outcomeName } from '../kernel.js';
import { refuseKvm } from '../needs.js';
import { NotThere, type Probe, supported } from '../probe.js';
import type { Scene } from '../scene.js';

const KVM_GET_API_VERSION = 0xae00;
const KVM_CREATE_VM = 0xae01;
const KVM_CREATE_GUEST_MEMFD = 0xc040aed4;
/** A kvm_create_guest_memfd: size, flags, six reserved. */
const CREATE_WORDS = 8;
const MMAP_AND_INIT_SHARED = 3n;

/** A guest_memfd of a VM of its own. A negative errno when it cannot be had. */
function create(scene: Scene, flags: bigint): number {
  const system = scene.descriptor(openPath(scene.kernel, '/dev/kvm', true));
  const vm = scene.descriptor(scene.call('ioctl', system, KVM_CREATE_VM, 0));
  if (vm < 0) throw new NotThere({ seen: outcomeName(vm) }, 'KVM_CREATE_VM');
  const request = new BigUint64Array(CREATE_WORDS);
  request.set([BigInt(4 * scene.page), flags]);
  return scene.descriptor(scene.call('ioctl', vm, KVM_CREATE_GUEST_MEMFD, request));
}

function mapped(scene: Scene) {
  const fd = create(scene, MMAP_AND_INIT_SHARED);
  if (fd < 0) throw new NotThere({ seen: outcomeName(fd) }, 'a guest_memfd that can be mapped (Linux 6.18)');
  return scene.mapFile(fd, { lengthBytes: 4 * scene.page });
}

function registers(mode: Exclude<RegisterModeName, 'rwp'>): Probe {
  return {
    id: `reg.guestMemfd.${mode}`,
    description: `guest_memfd can be registered with the mode ${mode}`,
    since: 'never',
    needs: ['userfaultfd', 'kvm'],
    outcomes: {
      ok: { result: 'yes', kernels: 'none up to 7.3' },
      EINVAL: { result: 'no', kernels: 'up to 7.3', means: 'no released kernel does; use a memfd as guest memory' },
    },
    ask: (scene) => outcomeName(scene.userfaultfd().register(mapped(scene), [mode])),
  };
}

export const kvm: readonly Probe[] = [
  {
    id: 'kvm.open',
    description: '/dev/kvm opens, and its API is version 12',
    since: '2.6.22',
    needs: [],
    outcomes: { 'version 12': { result: 'yes', kernels: '2.6.22 and later' } },
    ask: (scene) => {
      const fd = scene.descriptor(openPath(scene.kernel, '/dev/kvm', true));
      if (fd < 0) refuseKvm(scene.kernel, outcomeName(fd));
      return `version ${scene.call('ioctl', fd, KVM_GET_API_VERSION, 0)}`;
    },
  },
  {
    id: 'gmem.create',
    description: 'KVM_CREATE_GUEST_MEMFD gives a guest_memfd',
    since: '6.8',
    needs: ['kvm'],
    outcomes: {
      ok: { result: 'yes', kernels: '6.8 and later' },
      ENOTTY: { result: 'no', kernels: 'before 6.8, or without CONFIG_KVM_GUEST_MEMFD' },
      EINVAL: { result: 'no', kernels: 'for VMs of this type' },
    },
    ask: (scene) => outcomeName(create(scene, 0n)),
  },
  registers('missing'),
  registers('minor'),
  registers('wp'),
  {
    id: 'reg.guestMemfd.wpAsync',
    description: 'the writes of guest_memfd can be tracked: mode wp alone, with the feature wpAsync',
    since: '6.18',
    needs: ['userfaultfd', 'kvm'],
    outcomes: supported('6.18'),
    ask: (scene) => outcomeName(scene.userfaultfd(['wpAsync']).register(mapped(scene), ['wp'])),
  },
];
