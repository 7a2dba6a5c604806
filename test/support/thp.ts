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
  if (hugeBytes(mapping) !== HUGE) throw new Error('no transparent huge page to be had');
  return { mapping, at };
}

/** A memfd of which a range of the size of a huge page can be mapped by one: at `at` of the mapping, behind `offset`. */
export function memfdAlignedForThp(): { memfd: Memfd; mapping: Mapping; offset: number; at: number } | undefined {
  const memfd = memfdOf((3 * HUGE) / PAGE);
  // Address and offset must be the same in a huge page: mapped once to see where, then there with that offset.
  const trial = Mapping.map(memfd, { lengthBytes: 2 * HUGE });
  const offset = Number(trial.address % BigInt(HUGE));
  trial.unmap();
  const mapping = mappingOf(memfd, { offset, lengthBytes: 2 * HUGE });
  const at = alignedOffset(mapping);
  return (offset + at) % HUGE === 0 ? { memfd, mapping, offset, at } : undefined;
}
