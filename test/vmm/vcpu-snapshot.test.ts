// The state of a vCPU, taken and put back; and what a machine does not take.
import { beforeEach, expect, test } from 'vitest';
import { putVcpu, takeVcpu } from '../../dist/vmm/vcpu-snapshot.js';
import { HLT, guestOf, openKvm } from '../kvm/support.js';
import { requires } from '../support/requires.js';

const STAR = 0xc0000081;

beforeEach((context) => {
  requires(context, 'kvm');
});

test('another vCPU takes all of it', async () => {
  const indices = openKvm().msrIndices();
  const { vcpu } = await guestOf(HLT);
  vcpu.setMsrs([[STAR, 0x0123456789abcdefn]]);
  vcpu.registers = { ...vcpu.registers, r13: 77n };
  const taken = takeVcpu(vcpu, indices);
  const { vcpu: other } = await guestOf(HLT);
  putVcpu(other, taken);
  const { msrs: before, ...state } = taken;
  const { msrs: after, ...same } = takeVcpu(other, indices);
  expect(same).toEqual(state);
  expect(new Map(after).get(STAR)).toBe(0x0123456789abcdefn.toString());
  expect(after.map(([index]) => index)).toEqual(before.map(([index]) => index));
});

test('an MSR that does not exist here is refused by its number', async () => {
  const { vcpu } = await guestOf(HLT);
  const taken = takeVcpu(vcpu, [STAR]);
  expect(() => {
    putVcpu(vcpu, { ...taken, msrs: [...taken.msrs, [0xdeadbeef, '1']] });
  }).toThrow(/^the snapshot cannot be used: this machine does not take the values of MSR 0xdeadbeef of vCPU 0/);
});

test('a state of another size is refused', async () => {
  const { vcpu } = await guestOf(HLT);
  expect(() => {
    putVcpu(vcpu, { ...takeVcpu(vcpu, []), fpu: 'AAAA' });
  }).toThrow(/the fpu of a vCPU are 416 bytes, not 3/);
});
