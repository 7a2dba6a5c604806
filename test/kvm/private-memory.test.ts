// Memory that is private to the guest: VM types that have it (KVM_X86_SW_PROTECTED_VM, a kernel built for it).
import { beforeEach, expect, test } from 'vitest';
import { PAGE, anonymousMapping } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { GUEST_BYTES, HLT, guestOf, load64, openKvm, runTo, store64 } from './support.js';

const DATA = GUEST_BYTES;
const word = (text: string) => Buffer.from(text).readBigUInt64LE();

beforeEach((context) => {
  requires(context, 'kvm', 'kvm-private-memory');
});

async function protectedGuest(code: readonly number[]) {
  const type = openKvm().vmTypes.find((one) => one !== 0);
  const data = anonymousMapping(1);
  await data.write(0, Buffer.from('of VMM !'));
  return { ...(await guestOf(code, undefined, type)), data };
}

test('private memory that a slot does not have: the guest exits, and runs on when it is shared again', async () => {
  const { vm, vcpu, data } = await protectedGuest([...load64(DATA), ...HLT]);
  vm.setMemory({ slot: 1, address: DATA, lengthBytes: PAGE, mapping: data });
  vm.setPrivate(DATA, PAGE, true);
  for (let time = 0; time < 2; time++) {
    expect(await runTo(vcpu, 'memory-fault')).toMatchObject({
      address: DATA,
      sizeBytes: PAGE,
      private: true,
      code: 'EFAULT',
    });
  }
  vm.setPrivate(DATA, PAGE, false);
  await runTo(vcpu, 'hlt');
  expect(vcpu.registers.rax).toBe(word('of VMM !'));
});

test('private and shared are two memories at one address', async () => {
  // Reads into rax, and writes rbx.
  const code = [...load64(DATA), 0x48, 0x89, 0x1c, 0x25, ...store64(DATA).slice(4), ...HLT];
  const { vm, vcpu, data } = await protectedGuest(code);
  const file = vm.createGuestMemfd({ sizeBytes: PAGE });
  vm.setMemory({ slot: 1, address: DATA, lengthBytes: PAGE, mapping: data, guestMemfd: { file, offset: 0 } });
  const start = vcpu.registers;
  const reads = async (rbx: bigint) => {
    vcpu.registers = { ...start, rbx };
    await runTo(vcpu, 'hlt');
    return vcpu.registers.rax;
  };
  expect(await reads(word('guest  1'))).toBe(word('of VMM !'));
  vm.setPrivate(DATA, PAGE, true);
  expect(await reads(word('private!'))).toBe(0n);
  expect(await data.read(0, 8)).toEqual(Buffer.from('guest  1'));
  vm.setPrivate(DATA, PAGE, false);
  expect(await reads(word('guest  2'))).toBe(word('guest  1'));
  vm.setPrivate(DATA, PAGE, true);
  expect(await reads(0n)).toBe(word('private!'));
  file.close();
});
