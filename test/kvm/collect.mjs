// VMs and vCPUs that nobody holds are collected, with their descriptors, mappings and threads; one that runs is not.
import { Kvm, Mapping } from '../../dist/index.js';
import { assert, descriptors, eventually, mappings, ok, threads } from '../lifecycle/scripts/common.js';

const before = threads();

function make() {
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  const mapping = Mapping.anonymous(4096, { shared: true });
  vm.setMemory({ slot: 0, address: 0, lengthBytes: 4096, mapping });
  const vcpu = vm.createVcpu(0);
  return [kvm, vm, vcpu, mapping].map((object) => new WeakRef(object));
}

const references = Array.from({ length: 10 }, make).flat();
assert.equal(threads(), before + 10);
await eventually(() => references.every((reference) => reference.deref() === undefined), 'all objects are collected');
await eventually(() => descriptors('anon_inode:kvm') + descriptors('/dev/kvm') === 0, 'descriptors are closed');
await eventually(() => mappings('kvm-vcpu') === 0 && mappings('/dev/zero') === 0, 'mappings are unmapped');
await eventually(() => threads() === before, 'threads have ended');
ok();
