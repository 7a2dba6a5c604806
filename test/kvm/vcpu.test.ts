// vCPUs that run: exits and their replies, interrupting, state, and memory that cannot be had.
import { readFileSync, readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { GuestMemoryError, Mapping, Memfd, MpState, Userfaultfd } from '../../dist/index.js';
import { Vcpu } from '../../dist/kvm/vcpu.js';
import { native } from '../../dist/native/load.js';
import { milliseconds, within } from '../support/deadline.js';
import { PAGE, memfdOf } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';
import { DATA, FOREVER, GUEST_BYTES, HLT, IN, OUT, guestOf, load64, openKvm, runTo, store64 } from './support.js';

/** KVM_CAP_SPLIT_IRQCHIP, which this package has no use for. */
const SPLIT_IRQCHIP = 121;
/** kvm_vcpu_events.smi.latched_init */
const LATCHED_INIT = 27;
const errorWith = (code: string) => expect.objectContaining({ code }) as Error;

function blockedBy(thread: string): bigint {
  const status = readFileSync(`/proc/self/task/${thread}/status`, 'utf8');
  return BigInt(`0x${/^SigBlk:\s*([0-9a-f]+)/m.exec(status)![1]!}`);
}

beforeEach((context) => {
  requires(context, 'kvm');
});

describe('exits', () => {
  test('a port is written', async () => {
    // mov al, 0x41
    const { vcpu } = await guestOf([0xb0, 0x41, ...OUT, ...HLT]);
    expect(await runTo(vcpu, 'io')).toEqual({
      type: 'io',
      direction: 'out',
      port: 0x500,
      size: 1,
      count: 1,
      data: Buffer.from('A'),
    });
    await runTo(vcpu, 'hlt');
  });

  test('a port is read: the next run takes the bytes', async () => {
    const { vcpu } = await guestOf([...IN, ...HLT]);
    expect(await runTo(vcpu, 'io')).toMatchObject({ direction: 'in', port: 0x500, size: 1, count: 1 });
    await runTo(vcpu, 'hlt', Buffer.from([0x5a]));
    expect(vcpu.registers.rax & 0xffn).toBe(0x5an);
  });

  test('a string instruction: all of its bytes', async () => {
    // mov dx, 0x500; mov esi, DATA; mov ecx, 3; rep outsb
    const code = [0x66, 0xba, 0, 5, 0xbe, 0, 0, 0x10, 0, 0xb9, 3, 0, 0, 0, 0xf3, 0x6e, ...HLT];
    const { vcpu, mapping } = await guestOf(code);
    await mapping.write(DATA, Buffer.from('xyz'));
    let written = '';
    for (let exit = await vcpu.run(); exit.type === 'io'; exit = await vcpu.run()) written += exit.data.toString();
    expect(written).toBe('xyz');
  });

  test('an address without memory is read and written', async () => {
    const outside = GUEST_BYTES + 0x10;
    const { vcpu } = await guestOf([...load64(outside), ...store64(outside + 8), ...HLT]);
    expect(await runTo(vcpu, 'mmio')).toMatchObject({ address: outside, lengthBytes: 8, write: false });
    const reply = Buffer.from('abcdefgh');
    const written = await runTo(vcpu, 'mmio', reply);
    expect(written).toEqual({ type: 'mmio', address: outside + 8, lengthBytes: 8, write: true, data: reply });
    await runTo(vcpu, 'hlt');
  });

  test('no bytes of an earlier reply come back', async () => {
    const { vcpu } = await guestOf([...IN, 0x88, 0xc3, ...IN, ...HLT]); // mov bl, al between
    await runTo(vcpu, 'io');
    await runTo(vcpu, 'io', Buffer.from([0x11]));
    await runTo(vcpu, 'hlt', Buffer.from([0x22]));
    expect(vcpu.registers.rbx & 0xffn).toBe(0x11n);
    expect(vcpu.registers.rax & 0xffn).toBe(0x22n);
  });

  test('a triple fault', async () => {
    const { vcpu } = await guestOf([0x0f, 0x0b]); // ud2, without a handler
    await runTo(vcpu, 'shutdown');
  });
});

describe('the thread of a vCPU', () => {
  test('leaves the event loop alone, and is interrupted', async () => {
    const { vcpu } = await guestOf(FOREVER);
    const run = vcpu.run();
    expect(vcpu.running).toBe(true);
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 5);
    await delay(milliseconds(100));
    clearInterval(ticking);
    expect(ticks).toBeGreaterThan(3);
    vcpu.interrupt();
    expect(await within(run, 'the run')).toEqual({ type: 'intr' });
    expect(vcpu.running).toBe(false);
  });

  test('an interrupt that comes first is for the next run, and for that alone', async () => {
    const { vcpu } = await guestOf(HLT);
    vcpu.interrupt();
    await runTo(vcpu, 'intr');
    await runTo(vcpu, 'hlt');
  });

  test('signals of the process do not reach it: they would end its run', async () => {
    const threads = () => readdirSync('/proc/self/task');
    const before = threads();
    const { vcpu } = await guestOf(HLT);
    await runTo(vcpu, 'hlt');
    const [thread] = threads().filter((one) => !before.includes(one) && blockedBy(one) !== 0n);
    const blocked = blockedBy(thread!);
    const isBlocked = (signal: number) => (blocked & (1n << BigInt(signal - 1))) !== 0n;
    const { SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGBUS } = constants.signals;
    expect([SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGBUS].map(isBlocked)).toEqual([true, true, true, true, false]);
  });

  test('while it runs there is one run, no state, and no change of slots', async () => {
    const { vm, vcpu, mapping } = await guestOf(FOREVER);
    const run = vcpu.run();
    expect(() => vcpu.registers).toThrow(errorWith('ERR_VCPU_RUNNING'));
    await expect(vcpu.run()).rejects.toThrow(errorWith('ERR_VCPU_RUNNING'));
    const slot = { slot: 1, address: GUEST_BYTES, lengthBytes: PAGE, mapping };
    expect(() => {
      vm.setMemory(slot);
    }).toThrow(errorWith('ERR_VCPU_RUNNING'));
    expect(() => {
      vm.removeMemory(0);
    }).toThrow(errorWith('ERR_VCPU_RUNNING'));
    await vm.stop();
    expect(await run).toEqual({ type: 'intr' });
    vm.setMemory(slot);
  });

  test('four at once, each its own', async () => {
    const { vm, vcpu } = await guestOf([...OUT, ...HLT]);
    const cpuid = openKvm().supportedCpuid();
    const all = [vcpu];
    for (let id = 1; id < 4; id++) {
      const other = vm.createVcpu(id);
      other.setCpuid(cpuid);
      other.specialRegisters = vcpu.specialRegisters;
      other.registers = { ...vcpu.registers, rax: BigInt(id) };
      all.push(other);
    }
    const exits = await Promise.all(all.map((one) => runTo(one, 'io')));
    expect(exits.map(({ data }) => data[0])).toEqual([0, 1, 2, 3]);
  });

  test('complete: the access is done, and nothing after it', async () => {
    const { vcpu } = await guestOf([...IN, 0xfe, 0xc0, ...HLT]); // inc al
    await runTo(vcpu, 'io');
    await vcpu.complete(Buffer.from([7]));
    expect(vcpu.registers.rax & 0xffn).toBe(7n);
    await runTo(vcpu, 'hlt');
    expect(vcpu.registers.rax & 0xffn).toBe(8n);
  });
});

describe('state', () => {
  test('registers and special registers come back as they were put', async () => {
    const { vcpu } = await guestOf(HLT);
    const registers = { ...vcpu.registers, rbx: 2n ** 64n - 1n, r13: 13n };
    vcpu.registers = registers;
    expect(vcpu.registers).toEqual(registers);
    const special = vcpu.specialRegisters;
    expect(special).toMatchObject({ cr0: 0x80000011n, efer: 0x500n, cs: { l: 1, selector: 8 } });
    vcpu.specialRegisters = { ...special, gdt: { base: 0x5000n, limit: 23 }, cr2: 0x1234n };
    expect(vcpu.specialRegisters).toEqual({ ...special, gdt: { base: 0x5000n, limit: 23 }, cr2: 0x1234n });
  });

  test.each(['registers', 'specialRegisters', 'fpu', 'events', 'mpState'] as const)('%s, as bytes', async (name) => {
    const { vcpu } = await guestOf(HLT);
    const bytes = vcpu.state(name);
    vcpu.setState(name, bytes);
    expect(vcpu.state(name)).toEqual(bytes);
    expect(() => {
      vcpu.setState(name, bytes.subarray(1));
    }).toThrow(errorWith('ERR_OUT_OF_RANGE'));
  });

  test('MP state and MSRs; an MSR that does not exist is left out', async () => {
    const { vcpu } = await guestOf(HLT);
    expect(vcpu.mpState).toBe(MpState.runnable);
    const [star, none] = [0xc0000081, 0xdeadbeef];
    expect(vcpu.setMsrs([[star, 0x1122334455667788n], [none, 1n]])).toEqual([none]); // prettier-ignore
    expect(vcpu.msrs([none, star])).toEqual(new Map([[star, 0x1122334455667788n]]));
  });

  test('with an interrupt controller in the kernel: a latched INIT, and waiting for a start', () => {
    const kvm = new (native().Kvm)('/dev/kvm');
    const vm = new (native().KvmVm)(kvm.createVm(0));
    expect(vm.enableCapability(SPLIT_IRQCHIP, 24)).toBe(0);
    const internal = Vcpu as unknown as new (...parts: unknown[]) => Vcpu;
    const vcpu = new internal(new (native().KvmVcpu)(vm, 0, kvm.runSize()), 0, { slotAt: () => undefined });
    onTestFinished(async () => {
      await vcpu.close();
      vm.close();
      kvm.close();
    });
    const events = vcpu.state('events');
    expect(events[LATCHED_INIT]).toBe(0);
    events[LATCHED_INIT] = 1;
    vcpu.setState('events', events);
    expect(vcpu.state('events')).toEqual(events);
    events[LATCHED_INIT] = 0;
    vcpu.setState('events', events);
    expect(vcpu.state('events')[LATCHED_INIT]).toBe(0);
    for (const state of [MpState.uninitialized, MpState.halted, MpState.runnable]) {
      vcpu.mpState = state;
      expect(vcpu.mpState).toBe(state);
    }
  });

  test('pre-faulting: done, or not supported', async () => {
    const { vm, vcpu } = await guestOf(HLT);
    const preFault = () => {
      vcpu.preFault(DATA, PAGE);
    };
    if (vm.capability('preFaultMemory') === 1) preFault();
    else expect(preFault).toThrow(/^(ENOTSUP|ENOTTY|EINVAL): .*KVM_PRE_FAULT_MEMORY .*two-dimensional paging/);
  });
});

describe('memory that is served', () => {
  /** A guest whose data page at DATA is missing; page tables and code are there. */
  async function servedGuest(code: readonly number[]) {
    const memfd = memfdOf(GUEST_BYTES / PAGE);
    const loaded = Mapping.map(memfd);
    const guest = await guestOf(code, loaded);
    const uffd = Userfaultfd.open();
    onTestFinished(() => {
      uffd.close();
    });
    const data = { start: loaded.address + BigInt(DATA), lengthBytes: 4 * PAGE };
    const region = uffd.register(data, ['missing', 'minor']);
    return { ...guest, memfd, uffd, region };
  }

  test('the guest waits for the page, and reads what it gets', async (context) => {
    requires(context, 'uffd');
    const { vcpu, uffd } = await servedGuest([...load64(DATA + PAGE), ...HLT]);
    const run = runTo(vcpu, 'hlt');
    for await (const event of uffd) {
      if (event.type !== 'pagefault') continue;
      expect(event.page).toBe(1);
      expect(vcpu.running).toBe(true);
      uffd.copy(event, Buffer.alloc(PAGE, 'served'));
      break;
    }
    await within(run, 'the run');
    expect(vcpu.registers.rax).toBe(Buffer.from('servedse').readBigUInt64LE());
    expect(vcpu.waits.faults).toBeGreaterThanOrEqual(1);
    expect(vcpu.waits.waitedMs).toBeGreaterThan(0);
  });

  test('poison is an error that names the page, and the vCPU does not run again', async (context) => {
    requires(context, 'uffd', 'uffd-poison');
    const { vcpu, uffd, region } = await servedGuest([...load64(DATA + 2 * PAGE), ...OUT, ...HLT]);
    uffd.poison({ region, page: 2 });
    const failure = vcpu.run();
    await expect(failure).rejects.toThrow(GuestMemoryError);
    await expect(failure).rejects.toMatchObject({
      code: 'ERR_GUEST_MEMORY',
      vcpu: 0,
      address: DATA + 2 * PAGE,
      slot: 0,
      page: DATA / PAGE + 2,
    });
    await expect(vcpu.run()).rejects.toThrow(GuestMemoryError);
  });

  // Where KVM emulates the guest, a signal does not end the wait.
  const stuck = (error: unknown) => {
    expect(error).toMatchObject({ code: 'ERR_VCPU_STUCK' });
    return 'stuck';
  };

  test('stopping one that waits: poison first; without it, a signal is enough, or it is stuck', async (context) => {
    requires(context, 'uffd', 'uffd-poison');
    const { vm, vcpu, uffd, region } = await servedGuest([...load64(DATA), ...HLT]);
    const run = vcpu.run();
    run.catch(() => undefined);
    await delay(50);
    if ((await vm.stop({ deadlineMs: milliseconds(100) }).catch(stuck)) !== 'stuck') {
      expect(await run).toEqual({ type: 'intr' });
      return;
    }
    expect(vcpu.running).toBe(true);
    await vm.stop({ poison: () => void uffd.poison({ region, page: 0, pages: 4 }), deadlineMs: milliseconds(2000) });
    await expect(run).rejects.toThrow(/cannot be had/);
  });

  test('closing one that waits: an error in time, and the process goes on', async (context) => {
    requires(context, 'uffd', 'uffd-poison');
    const { vm, vcpu, uffd, region } = await servedGuest([...load64(DATA), ...HLT]);
    const run = vcpu.run();
    run.catch(() => undefined);
    await delay(50);
    const before = performance.now();
    if ((await vcpu.close(milliseconds(100)).catch(stuck)) !== 'stuck') {
      expect(await run).toEqual({ type: 'intr' });
      return;
    }
    await expect(run).rejects.toThrow(errorWith('ERR_VCPU_STUCK'));
    expect(performance.now() - before).toBeLessThan(milliseconds(2000));
    await expect(vm.close()).rejects.toThrow(errorWith('ERR_VCPU_STUCK'));
    // Its thread is still there, and lets go of everything once it is answered.
    expect(openDescriptors('anon_inode:kvm-vcpu')).toBe(1);
    uffd.poison({ region, page: 0, pages: 4 });
    for (let waited = 0; openDescriptors('anon_inode:kvm-vcpu') > 0 && waited < milliseconds(2000); waited += 10)
      await delay(10);
    expect(openDescriptors('anon_inode:kvm-vcpu')).toBe(0);
  });
});

describe('memory that is not there', () => {
  test('protected away under the guest: a memory failure', async () => {
    const { vcpu, mapping } = await guestOf([...load64(DATA), ...HLT]);
    mapping.protect('none', DATA, PAGE);
    await expect(vcpu.run()).rejects.toThrow(/cannot be had|KVM_RUN/);
  });

  test('a mapping that is unmapped stays for as long as the slot does', async () => {
    const memfd = Memfd.create({ sizeBytes: GUEST_BYTES });
    const mapping = Mapping.map(memfd);
    memfd.write(Buffer.from('still here'), DATA);
    const { vm, vcpu } = await guestOf([...load64(DATA), ...HLT], mapping);
    mapping.unmap();
    memfd.close();
    await runTo(vcpu, 'hlt');
    expect(vcpu.registers.rax).toBe(Buffer.from('still he').readBigUInt64LE());
    await vm.close();
  });
});
