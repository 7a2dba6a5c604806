// Clones of one snapshot that share its clean pages: the server speaks first, and gives the memory behind all of them. A
// client maps it private, registers it for MINOR faults, and answers with the array of Firecracker's later releases and
// its userfaultfd. Nothing more is said.
import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { parseMappings, type WireMapping } from './mappings.js';

/** What comes with the descriptor of the memory; clients do not look at it. */
export const CLONES_GREETING = 'FCVM_UFFD_MINOR_BACKING';

/** A clone's answer. @throws UffdError ERR_HANDOFF_REFUSED */
export function parseClone(text: string): { dialect: 'clones'; mappings: readonly WireMapping[] } {
  return { dialect: 'clones', mappings: parseMappings(text) };
}

/** What of a clone's memory is its own, and what it has in common with the others; both as far as it has touched it. */
export interface CloneMemory {
  readonly sharedBytes: number;
  readonly privateBytes: number;
}

/** How long one is waited for: reading takes the lock of the address space, which its process can hold. */
const READ_MS = 500;
/** Reads that may never end, each on a thread of the pool; it has four. */
const MAX_READING = 2;
const reading = new Set<number>();

/**
 * Of a process's mappings (proc(5), smaps); undefined when they may not be read (other users' need CAP_SYS_PTRACE), or not
 * in time.
 */
export async function cloneMemory(
  pid: number,
  regions: readonly { readonly start: bigint; readonly size: number }[],
): Promise<CloneMemory | undefined> {
  if (reading.has(pid) || reading.size >= MAX_READING) return undefined;
  reading.add(pid);
  const smaps = readFile(`/proc/${pid}/smaps`, 'utf8')
    .catch(() => undefined)
    .finally(() => reading.delete(pid));
  const text = await Promise.race([smaps, setTimeout(READ_MS, undefined, { ref: false })]);
  return text === undefined ? undefined : cloneMemoryOf(text, regions);
}

/** The same of the text of that file; undefined where a mapping has more in it than regions: its numbers are of all of it. */
export function cloneMemoryOf(
  smaps: string,
  regions: readonly { readonly start: bigint; readonly size: number }[],
): CloneMemory | undefined {
  const parts = joined(regions);
  let [resident, own] = [0, 0];
  // A mapping has a line of its own, its numbers follow.
  for (const mapping of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(mapping) ?? [];
    if (from === undefined || to === undefined) continue;
    const [start, end] = [BigInt(`0x${from}`), BigInt(`0x${to}`)];
    const part = parts.find((one) => start < one.end && end > one.start);
    if (part === undefined) continue;
    if (start < part.start || end > part.end) return undefined;
    const bytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(mapping)?.[1] ?? 0) * 1024;
    resident += bytes('Rss');
    // Written to since: copies of its own.
    own += bytes('Anonymous');
  }
  return { sharedBytes: resident - own, privateBytes: own };
}

/** Regions next to each other can be one mapping. */
function joined(
  regions: readonly { readonly start: bigint; readonly size: number }[],
): { start: bigint; end: bigint }[] {
  const parts: { start: bigint; end: bigint }[] = [];
  for (const { start, size } of regions.toSorted((a, b) => (a.start < b.start ? -1 : 1))) {
    const last = parts.at(-1);
    const end = start + BigInt(size);
    if (last?.end === start) last.end = end;
    else parts.push({ start, end });
  }
  return parts;
}
