// An environment that ends while a vCPU is in some state: node ending.mjs ENDING STATE
import { setTimeout as delay } from 'node:timers/promises';
import process from 'node:process';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';
import { Kvm, Mapping, Userfaultfd } from '../../dist/index.js';
import { longMode, pageTables, registersAt } from '../../dist/vmm/long-mode.js';
import { Layout } from '../../dist/vmm/guest-program.js';

const BYTES = 2 ** 22;
const HLT = [0xf4];
const FOREVER = [0xeb, 0xfe];
const LOAD = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0x10, 0]; // mov rax, [Layout.data]

/** Everything that must stay reachable is returned. */
async function guest(code, serve = false) {
  const mapping = Mapping.anonymous(BYTES);
  await mapping.write(Layout.pageTables, pageTables(BYTES));
  await mapping.write(Layout.code, Buffer.from(code));
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  vm.setMemory({ slot: 0, address: 0, lengthBytes: BYTES, mapping });
  const vcpu = vm.createVcpu(0);
  vcpu.setCpuid(kvm.supportedCpuid());
  vcpu.specialRegisters = longMode(vcpu.specialRegisters);
  vcpu.registers = registersAt(0, 0, { start: 0, end: 0, strideBytes: 8 });
  if (!serve) return { kvm, vm, vcpu };
  const userfaultfd = Userfaultfd.open();
  const data = { start: mapping.address + BigInt(Layout.data), lengthBytes: 4096 };
  userfaultfd.register(data, ['missing']);
  return { kvm, vm, vcpu, userfaultfd };
}

const states = {
  standing: () => guest(HLT),
  halted: async () => {
    const one = await guest(HLT);
    await one.vcpu.run();
    return one;
  },
  running: async () => {
    const one = await guest(FOREVER);
    one.vcpu.run().catch(() => undefined);
    return one;
  },
  'waiting for a page': async () => {
    const one = await guest([...LOAD, ...HLT], true);
    one.vcpu.run().catch(() => undefined);
    return one;
  },
  closed: async () => {
    const one = await guest(FOREVER);
    one.vcpu.run().catch(() => undefined);
    await one.vm.close();
    return one;
  },
};

const [ending, state] = isMainThread ? process.argv.slice(2) : workerData;

async function reach() {
  globalThis.kept = await states[state]();
  await delay(50);
}

if (!isMainThread) {
  await reach();
  parentPort.postMessage('reached');
  if (ending === 'worker exits') process.exit(0);
  await delay(100_000);
} else if (ending === 'main exits') {
  await reach();
  process.exit(0);
} else if (ending === 'main ends') {
  await reach();
} else {
  const worker = new Worker(new URL(import.meta.url), { workerData: [ending, state] });
  await new Promise((resolve) => worker.once('message', resolve));
  if (ending === 'worker.terminate') await worker.terminate();
  else await new Promise((resolve) => worker.once('exit', resolve));
}
