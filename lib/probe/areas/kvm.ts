// /dev/kvm, and what it offers.
import { Capability, type CapabilityName } from '../../kvm/capabilities.js';
import { openPath, outcomeName } from '../kernel.js';
import { refuseKvm } from '../needs.js';
import { type Probe } from '../probe.js';
import { capabilityOf, openKvm } from '../vm.js';
import { guestMemfd } from './guest-memfd.js';
import { memorySlots } from './memory-slot.js';
import { vcpus } from './vcpu.js';

const KVM_GET_API_VERSION = 0xae00;

const versions = {
  userMemory2: '6.8',
  memoryFaultInfo: '6.8',
  memoryAttributes: '6.8',
  guestMemfd: '6.8',
  vmTypes: '6.8',
  preFaultMemory: '6.11',
  guestMemfdFlags: '6.18',
} as const satisfies Partial<Record<CapabilityName, string>>;

function capability(name: keyof typeof versions): Probe {
  const since = versions[name];
  return {
    id: `kvm.cap.${name}`,
    description: `KVM_CHECK_EXTENSION offers ${name}`,
    since,
    needs: ['kvm'],
    outcomes: {
      offered: { result: 'yes', kernels: `${since} and later` },
      'not offered': { result: 'no', kernels: `before ${since}, or built or running without it` },
    },
    ask: (scene) => {
      const value = capabilityOf(scene, openKvm(scene), Capability[name]);
      return { seen: value > 0 ? 'offered' : 'not offered', number: Capability[name], value };
    },
  };
}

const typeNames = ['default', 'swProtected', 'sev', 'sevEs', 'snp', 'tdx'];

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
  ...(Object.keys(versions) as (keyof typeof versions)[]).map(capability),
  {
    id: 'kvm.vmTypes',
    description: 'there are VM types with private memory beside the normal one',
    since: '6.8',
    needs: ['kvm'],
    outcomes: {
      several: { result: 'yes', kernels: '6.8 and later, built for them' },
      'the normal one': { result: 'no', kernels: 'all others' },
    },
    ask: (scene) => {
      const mask = Math.max(capabilityOf(scene, openKvm(scene), Capability.vmTypes), 1);
      const types = Array.from({ length: 31 }, (_, type) => type).filter((type) => (mask & (1 << type)) !== 0);
      const names = types.map((type) => typeNames[type] ?? `type ${type}`).join(' ');
      return { seen: types.length > 1 ? 'several' : 'the normal one', types: names };
    },
  },
  ...vcpus,
  ...guestMemfd,
  ...memorySlots,
];
