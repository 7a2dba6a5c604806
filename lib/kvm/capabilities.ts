// KVM_CHECK_EXTENSION: the capabilities with a name here. Every other one can be asked for by its number.

/** KVM_CAP_*; userMemory2 to vmTypes since 6.8, preFaultMemory 6.11, guestMemfdFlags 6.18. */
export const Capability = {
  irqchip: 0,
  userMemory: 3,
  recommendedVcpus: 9,
  memorySlots: 10,
  mpState: 14,
  syncMmu: 16,
  vcpuEvents: 41,
  maxVcpus: 66,
  readonlyMemory: 81,
  immediateExit: 136,
  manualDirtyLogProtect: 168,
  userMemory2: 231,
  memoryFaultInfo: 232,
  memoryAttributes: 233,
  guestMemfd: 234,
  vmTypes: 235,
  preFaultMemory: 236,
  guestMemfdFlags: 244,
} as const;
/** Names of KVM capabilities. */
export type CapabilityName = keyof typeof Capability;

export function capabilityNumber(capability: CapabilityName | number): number {
  return typeof capability === 'number' ? capability : Capability[capability];
}
