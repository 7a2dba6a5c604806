// NUMA policy names (set_mempolicy(2), mbind(2)).
import { UffdError } from '../errors.js';

/** mbind(2) modes: MPOL_DEFAULT and so on. */
export const policyModes = {
  default: 0,
  preferred: 1,
  bind: 2,
  interleave: 3,
  local: 4,
  preferredMany: 5,
  weightedInterleave: 6,
} as const;
/**
 * Names of mbind(2) modes, each with the kernel's (Documentation/admin-guide/mm/numa_memory_policy.rst):
 * - `default`, MPOL_DEFAULT: that of the process; takes no nodes.
 * - `preferred`, MPOL_PREFERRED: the first of the nodes if it has memory, else another; without nodes, the CPU's.
 * - `bind`, MPOL_BIND: only these nodes.
 * - `interleave`, MPOL_INTERLEAVE: page by page, one node after the other.
 * - `local`, MPOL_LOCAL (Linux 3.8): the node of the CPU that touches first; takes no nodes.
 * - `preferredMany`, MPOL_PREFERRED_MANY (Linux 5.15): these nodes if they have memory, else others.
 * - `weightedInterleave`, MPOL_WEIGHTED_INTERLEAVE (Linux 6.9): as /sys/kernel/mm/mempolicy/weighted_interleave says.
 */
export type PolicyMode = keyof typeof policyModes;

/** On which NUMA nodes pages are allocated: what `mapping.setPolicy` (mbind(2)) takes, and `policyAt` tells. */
export interface MemoryPolicy {
  readonly mode: PolicyMode;
  /** Numbers of the NUMA nodes, 0 to 63, as in /sys/devices/system/node. Default none. */
  readonly nodes?: readonly number[];
}

/** MPOL_F_STATIC_NODES and the like share the word with the mode. */
const MODE_BITS = 0xff;

/** mode and nodemask of mbind(2). @throws UffdError ERR_INVALID_ARGUMENT */
export function policyArguments({ mode: name, nodes = [] }: MemoryPolicy): {
  mode: number;
  mask: bigint;
  text: string;
} {
  const mode = policyModes[name] as number | undefined;
  if (mode === undefined || nodes.some((node) => !Number.isInteger(node) || node < 0 || node > 63)) {
    throw new UffdError('ERR_INVALID_ARGUMENT', `unknown policy ${name}, or a node that is not 0 to 63`);
  }
  const mask = nodes.reduce((bits, node) => bits | (1n << BigInt(node)), 0n);
  return { mode, mask, text: `${name} on nodes ${nodes.join(', ')}` };
}

export function policyOf(mode: number, mask: bigint): Required<MemoryPolicy> {
  const names = Object.keys(policyModes) as PolicyMode[];
  const name = names.find((one) => policyModes[one] === (mode & MODE_BITS));
  const nodes = Array.from({ length: 64 }, (_, node) => node).filter((node) => (mask >> BigInt(node)) & 1n);
  return { mode: name ?? 'default', nodes };
}
