// Transparent huge pages for a test: memory that has one, and how much of a mapping is made of them.
import { type Memfd, Mapping, scanPages } from '../../dist/index.js';
import { HUGE } from './huge-pages.js';
import { PAGE, anonymousMapping, filled, mappingOf, memfdOf } from './memory.js';

/** Offset of the first whole huge page of a mapping. */
export function alignedOffset(mapping: Mapping): number {
  return Number((BigInt(HUGE) - (mapping.address % BigInt(HUGE))) % BigInt(HUGE));
}

export function hugeBytes(mapping: Mapping): number {
  return [...scanPages(mapping, { allOf: ['huge', 'present'] })].reduce((sum, run) => sum + run.lengthBytes, 0);
}

/** Private anonymous memory with one transparent huge page in it at an offset; page N of it begins with N % 250 + 1. */
export async function hugePage(): Promise<{ mapping: Mapping; at: number }> {
  const mapping = anonymousMapping((3 * HUGE) / PAGE);
  const at = alignedOffset(mapping);
  mapping.advise('hugePage', at, HUGE);
  await mapping.write(at, Buffer.concat(Array.from({ length: HUGE / PAGE }, (_, page) => filled((page % 250) + 1))));
  if (hugeBytes(mapping) !== HUGE) mapping.advise('collapse', at, HUGE);
  // What a test splits, khugepaged would make whole again; the page that is there stays.
  mapping.advise('noHugePage', at, HUGE);
  if (hugeBytes(mapping) !== HUGE) throw new Error('no transparent huge page to be had');
  return { mapping, at };
}

/** A memfd whose second range of the size of a huge page can be mapped by one: `offset` in the memfd. */
export function memfdForThp(): { memfd: Memfd; offset: number } {
  return { memfd: memfdOf((3 * HUGE) / PAGE), offset: HUGE };
}

/** A mapping in which that range can be one huge page: `at` of the mapping. */
export function alignedForThp(memfd: Memfd): { mapping: Mapping; at: number } {
  // Address and offset must be the same within a huge page: mapped once to see where, then there with that offset.
  for (let attempt = 0; attempt < 20; attempt++) {
    const trial = Mapping.map(memfd, { lengthBytes: 2 * HUGE });
    const into = Number(trial.address % BigInt(HUGE));
    trial.unmap();
    const mapping = mappingOf(memfd, { offset: into === 0 ? HUGE : into, lengthBytes: 2 * HUGE });
    if (mapping.address % BigInt(HUGE) === BigInt(into)) return { mapping, at: alignedOffset(mapping) };
  }
  throw new Error('no aligned mapping to be had');
}
