// Which protocol a client speaks, told from what has arrived.
import { parseFirecracker } from './firecracker.js';
import { type WireMapping, parseMappings } from './mappings.js';

/** `handoff`: docs/handoff-protocol.md, with lines back. `firecracker`: one message, and nothing is said back.
 * `clones`: the server speaks first, so a socket is told, and no other is understood there. */
export type Dialect = 'handoff' | 'firecracker' | 'clones';

/** @throws UffdError ERR_HANDOFF_REFUSED with the reason */
export function parseHandshake(
  text: string,
  descriptors: number,
  basePageSize: number,
): { dialect: Dialect; mappings: readonly WireMapping[] } {
  const firecracker = descriptors === 1 ? parseFirecracker(text, basePageSize) : undefined;
  if (firecracker !== undefined) return { dialect: 'firecracker', mappings: firecracker };
  return { dialect: 'handoff', mappings: parseMappings(text) };
}
