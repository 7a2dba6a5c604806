// NUMA policy names (set_mempolicy(2), mbind(2)).

/** mbind(2) modes; preferredMany since 5.15, weightedInterleave since 6.9. */
export const policyModes = {
  default: 0,
  preferred: 1,
  bind: 2,
  interleave: 3,
  local: 4,
  preferredMany: 5,
  weightedInterleave: 6,
} as const;
/** Names of mbind(2) modes. */
export type PolicyMode = keyof typeof policyModes;

/** On which NUMA nodes pages are allocated. */
export interface MemoryPolicy {
  readonly mode: PolicyMode;
  /** Numbers of the NUMA nodes, 0 to 63. Default none. */
  readonly nodes?: readonly number[];
}

/** MPOL_F_STATIC_NODES and the like share the word with the mode. */
const MODE_BITS = 0xff;

export function policyOf(mode: number, mask: bigint): Required<MemoryPolicy> {
  const names = Object.keys(policyModes) as PolicyMode[];
  const name = names.find((one) => policyModes[one] === (mode & MODE_BITS));
  const nodes = Array.from({ length: 64 }, (_, node) => node).filter((node) => (mask >> BigInt(node)) & 1n);
  return { mode: name ?? 'default', nodes };
}

export function nodeMask(nodes: readonly number[]): bigint {
  return nodes.reduce((mask, node) => mask | (1n << BigInt(node)), 0n);
}
