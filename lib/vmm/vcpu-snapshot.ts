// The state of a vCPU as it lies in a manifest, and back. CPUID is not in it: a restored vCPU gets that of its new host.
import type { Vcpu, VcpuStateName } from '../kvm/vcpu.js';
import { type VcpuSnapshot, invalid } from './manifest.js';

/** Special registers first: what MSRs and events may be depends on them. */
const stateNames = ['specialRegisters', 'registers', 'fpu', 'events', 'mpState'] as const satisfies VcpuStateName[];

export function takeVcpu(vcpu: Vcpu, msrIndices: readonly number[]): VcpuSnapshot {
  const state = (name: VcpuStateName) => vcpu.state(name).toString('base64');
  return {
    id: vcpu.id,
    registers: state('registers'),
    specialRegisters: state('specialRegisters'),
    fpu: state('fpu'),
    events: state('events'),
    mpState: state('mpState'),
    msrs: [...vcpu.msrs(msrIndices)].map(([index, value]) => [index, value.toString()]),
  };
}

/** @throws UffdError ERR_SNAPSHOT_INVALID for an MSR with a value this machine does not take */
export function putVcpu(vcpu: Vcpu, snapshot: VcpuSnapshot): void {
  for (const name of stateNames) vcpu.setState(name, Buffer.from(snapshot[name], 'base64'));
  const wanted = new Map(snapshot.msrs.map(([index, value]) => [index, BigInt(value)]));
  const refused = vcpu.setMsrs(wanted);
  // Some refuse to be set to what they are.
  const now = vcpu.msrs(refused);
  const lost = refused.filter((index) => now.get(index) !== wanted.get(index));
  if (lost.length === 0) return;
  const names = lost.map((index) => `0x${index.toString(16)}`).join(', ');
  throw invalid(`this machine does not take the values of MSR ${names} of vCPU ${vcpu.id}`);
}
