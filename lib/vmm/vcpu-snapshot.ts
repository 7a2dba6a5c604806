// The state of a vCPU as it lies in a manifest, and back. CPUID is not in it: a restored vCPU gets that of its new host.
import type { Vcpu, VcpuStateName } from '../kvm/vcpu.js';
import type { VcpuSnapshot } from './manifest.js';

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

/** @returns the MSRs the host would not take back */
export function putVcpu(vcpu: Vcpu, snapshot: VcpuSnapshot): number[] {
  for (const name of stateNames) vcpu.setState(name, Buffer.from(snapshot[name], 'base64'));
  return vcpu.setMsrs(snapshot.msrs.map(([index, value]) => [index, BigInt(value)]));
}
