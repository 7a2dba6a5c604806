// Guests that run: where their memory comes from, and what a fault of a vCPU is to a userfaultfd.
import { setImmediate } from 'node:timers/promises';
import { Capability } from '../../kvm/capabilities.js';
import type { RegisterModeName } from '../../memory/kinds/kind.js';
import type { FaultEvent } from '../../userfaultfd/events.js';
import { outcomeName } from '../kernel.js';
import { openLimited } from '../openings.js';
import { type Evidence, NotThere, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import { Guest } from '../guest.js';
import { vcpuStatistics } from '../statistics.js';
import { VmSubject, capabilityOf, openKvm } from '../vm.js';
import { done, must } from './answers.js';
import { mappedGuestMemfd } from './guest-memfd.js';
import { reasonOf, sharedWith } from './minor.js';

/** For a guest of a few instructions, where KVM emulates each of them. */
const RUN_MS = 500;

async function outcomeOf(scene: Scene, running: Promise<string>): Promise<string> {
  return (await scene.within(running, RUN_MS)) ?? 'asleep';
}

/** Whose fault it is: of a thread of this process, or of one that works for it. */
function whose(scene: Scene, message: FaultEvent | undefined): Evidence {
  const threadId = message !== undefined && 'threadId' in message ? message.threadId : 0;
  const ours = scene.kernel.readText(`/proc/self/task/${threadId}/stat`) !== undefined;
  return { seen: `${reasonOf(message)}, ${ours ? 'vCPU thread' : 'kernel worker'}`, threadId };
}

/** A vCPU that reads a page of a memfd which is registered so. */
async function servedFault(scene: Scene, mode: RegisterModeName, interrupts = false): Promise<Evidence> {
  const { memfd, mapping } = scene.shared();
  const subject = scene.userfaultfd(['threadId']);
  const mask = subject.register(mapping, [mode]);
  if (mask < 0) throw new NotThere({ seen: outcomeName(mask) }, `registering a memfd with ${mode}`);
  if (mode === 'minor') memfd.write(Uint8Array.of(99), 0);
  const guest = await Guest.create(scene, { memory: { mapping }, interrupts });
  const running = guest.run();
  const [message] = await subject.messages();
  const answered = done(subject.answer(mode === 'minor' ? 'continue' : 'copy', mapping), mapping);
  const { seen, ...rest } = whose(scene, message);
  return { ...rest, seen: `${seen}, ${answered}, ${await outcomeOf(scene, running)}` };
}

const emulating = 'where KVM emulates the guest';

const faults: readonly Probe[] = [
  {
    id: 'kvm.vcpuUffdMissing',
    description: 'a vCPU that touches an absent page of a memfd waits for the answer; its own thread has the fault',
    since: '4.3',
    needs: ['kernelFaults', 'kvm', 'x86'],
    outcomes: always('missing, vCPU thread, done, read 99', '4.3'),
    ask: (scene) => servedFault(scene, 'missing'),
  },
  {
    id: 'kvm.vcpuUffdMinor',
    description: 'a vCPU that touches a cached page of a memfd waits for the answer; its own thread has the fault',
    since: '5.14',
    needs: ['kernelFaults', 'kvm', 'x86'],
    outcomes: always('minor, vCPU thread, done, read 99', '5.14'),
    ask: (scene) => servedFault(scene, 'minor'),
  },
  {
    id: 'kvm.vcpuUffdAsync',
    description:
      'with an interrupt controller in the kernel a worker of the kernel has the fault, and the vCPU is free',
    since: '4.3',
    needs: ['kernelFaults', 'kvm', 'x86'],
    outcomes: {
      'missing, kernel worker, done, read 99': {
        result: 'yes',
        kernels: '4.3 and later',
        means: 'the thread that a message names need not be a vCPU: tell who waits by the page',
      },
      'missing, vCPU thread, done, read 99': { result: 'no', kernels: emulating },
    },
    ask: (scene) => servedFault(scene, 'missing', true),
  },
  {
    id: 'kvm.vcpuUserModeOnly',
    description: 'a fault of a vCPU that a USER_MODE_ONLY userfaultfd cannot have fails KVM_RUN with EFAULT',
    since: '5.11',
    needs: ['userfaultfd', 'kvm', 'x86'],
    outcomes: {
      ...always('EFAULT', '5.11'),
      mmio: {
        result: 'differs',
        kernels: emulating,
        means: 'it looks like an access to a device: do not answer one inside a memory slot',
      },
    },
    ask: async (scene) => {
      const subject = scene.subject(openLimited(scene.kernel));
      subject.handshake(0n);
      const { mapping } = scene.shared();
      subject.registered(mapping, ['missing']);
      const guest = await Guest.create(scene, { memory: { mapping } });
      return outcomeOf(scene, guest.run());
    },
  },
  {
    id: 'kvm.vcpuPoison',
    description: 'a vCPU that touches a page poisoned by UFFDIO_POISON gets SIGBUS',
    since: '6.6',
    needs: ['kernelFaults', 'kvm', 'x86'],
    outcomes: {
      ...always('SIGBUS', '6.6'),
      mmio: {
        result: 'differs',
        kernels: emulating,
        means: 'it looks like an access to a device: do not answer one inside a memory slot',
      },
    },
    ask: async (scene) => {
      const { subject, mapping } = sharedWith(scene, ['missing']);
      must(subject.answer('poison', mapping), 'UFFDIO_POISON');
      const guest = await Guest.create(scene, { memory: { mapping } });
      return outcomeOf(scene, guest.run());
    },
  },
  {
    id: 'kvm.signalInterruptsUffdWait',
    description: 'a signal to a vCPU that waits for an answer ends KVM_RUN with EINTR',
    since: '6.2',
    needs: ['kernelFaults', 'kvm', 'x86'],
    outcomes: {
      ...always('EINTR', '6.2'),
      asleep: {
        result: 'no',
        kernels: 'before 6.2',
        means: 'answer the fault, with poison if need be, to stop the vCPU',
      },
      storm: {
        result: 'differs',
        kernels: emulating,
        means: 'it spins, with a message each time, until the fault is answered: answer, with poison if need be',
      },
    },
    ask: interruptedWait,
  },
];

const INTERRUPTED_MS = 100;
/** More than two: it would not end. */
const STORM_MESSAGES = 3;

async function interruptedWait(scene: Scene): Promise<string> {
  const { subject, mapping } = sharedWith(scene, ['missing']);
  const guest = await Guest.create(scene, { memory: { mapping } });
  let ended: string | undefined;
  const running = guest.run().then((outcome) => (ended = outcome));
  if ((await subject.messages()).length === 0) return 'no message';
  guest.interrupt();
  const until = performance.now() + INTERRUPTED_MS * scene.patience;
  let more = 0;
  while (ended === undefined && more < STORM_MESSAGES && performance.now() < until) {
    more += subject.read().length;
    await setImmediate();
  }
  if (ended !== undefined) return ended;
  subject.answer('copy', mapping);
  // Ends it, so that the probe can.
  await outcomeOf(scene, running);
  return more >= STORM_MESSAGES ? 'storm' : 'asleep';
}

const KVM_VM_SW_PROTECTED = 1;

const running: readonly Probe[] = [
  {
    id: 'kvm.run',
    description: 'a guest runs, and reads its memory',
    since: '2.6.22',
    needs: ['kvm', 'x86'],
    outcomes: always('read 42', '2.6.22'),
    ask: async (scene) => {
      const { memfd, mapping } = scene.shared();
      memfd.write(Uint8Array.of(42), 0);
      const guest = await Guest.create(scene, { memory: { mapping } });
      return outcomeOf(scene, guest.run());
    },
  },
  {
    id: 'kvm.emulated',
    description: 'KVM emulates the instructions of the guest, one by one, and reads its memory as this process would',
    since: '5.14',
    needs: ['kvm', 'x86'],
    outcomes: {
      emulated: {
        result: 'yes',
        kernels: 'where the processor does not run this guest, such as KVM_PVM',
        means: 'slow; and an access that fails looks like an access to a device',
      },
      'on the processor': { result: 'no', kernels: 'all, on hardware' },
    },
    ask: async (scene) => {
      const guest = await Guest.create(scene, { program: 'count' });
      const ran = await outcomeOf(scene, guest.run());
      if (!ran.startsWith('read')) return ran;
      const { insn_emulation = 0, pf_taken = 0, exits = 0 } = vcpuStatistics(scene, guest.fd);
      return { seen: insn_emulation > 1000 ? 'emulated' : 'on the processor', insn_emulation, pf_taken, exits };
    },
  },
  {
    id: 'gmem.vcpuSource',
    description: 'a slot of guest_memfd gives the guest the pages of the guest_memfd, not those mapped at its address',
    since: '6.18',
    needs: ['kvm', 'x86'],
    outcomes: {
      'the guest_memfd': { result: 'yes', kernels: '6.18 and later' },
      'the address': {
        result: 'differs',
        kernels: emulating,
        means: 'map the same guest_memfd at the address of the slot',
      },
    },
    ask: async (scene) => {
      const vm = VmSubject.create(scene);
      const { fd, mapping } = mappedGuestMemfd(scene, vm);
      await mapping.write(0, Uint8Array.of(1), { signal: scene.signal });
      const other = scene.anonymous(mapping.lengthBytes / scene.page);
      await other.write(0, Uint8Array.of(2), { signal: scene.signal });
      const guest = await Guest.create(scene, { vm, memory: { mapping: other, guestMemfd: fd } });
      const read = await outcomeOf(scene, guest.run());
      return { 'read 1': 'the guest_memfd', 'read 2': 'the address' }[read] ?? read;
    },
  },
  {
    id: 'kvm.memoryAttributes',
    description: 'KVM_SET_MEMORY_ATTRIBUTES makes guest memory private, for a VM type that has private memory',
    since: '6.8',
    needs: ['kvm'],
    outcomes: {
      ...always('ok', '6.8'),
      ENOTTY: { result: 'no', kernels: 'before 6.8, or built without private memory' },
      EINVAL: { result: 'no', kernels: 'for VMs of the normal type', means: 'the VM type has no private memory' },
    },
    ask: (scene) => {
      const system = openKvm(scene);
      const types = capabilityOf(scene, system, Capability.vmTypes);
      const type = (types & (1 << KVM_VM_SW_PROTECTED)) === 0 ? 0 : KVM_VM_SW_PROTECTED;
      return { seen: outcomeName(VmSubject.create(scene, type).makePrivate(1)), type };
    },
  },
  {
    id: 'kvm.preFault',
    description: 'KVM_PRE_FAULT_MEMORY maps guest memory before the guest touches it',
    since: '6.11',
    needs: ['kvm', 'x86'],
    outcomes: {
      ...always('ok', '6.11'),
      ENOTSUP: { result: 'no', kernels: 'without two-dimensional paging' },
      EINVAL: { result: 'no', kernels: 'before 6.11' },
      ENOTTY: { result: 'no', kernels: 'before 6.11' },
    },
    ask: async (scene) => {
      const { memfd, mapping } = scene.shared();
      memfd.write(Uint8Array.of(1), 0);
      return (await Guest.create(scene, { memory: { mapping } })).preFault();
    },
  },
];

export const vcpus: readonly Probe[] = [...running, ...faults];
