// Transparent huge pages: collapsed after MINOR faults, moved whole and in parts.
import { beforeEach, expect, test } from 'vitest';
import { Mapping, scanPages } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { HUGE } from '../support/huge-pages.js';
import { PAGE, anonymousMapping, filled, mappingOf, memfdOf, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';

beforeEach((context) => {
  requires(context, 'uffd', 'thp');
});

/** Offset of the first whole huge page of a mapping. */
function aligned(mapping: Mapping): number {
  return Number((BigInt(HUGE) - (mapping.address % BigInt(HUGE))) % BigInt(HUGE));
}

function hugeBytes(mapping: Mapping): number {
  return [...scanPages(mapping, { allOf: ['huge', 'present'] })].reduce((sum, run) => sum + run.lengthBytes, 0);
}

/** Private anonymous memory with one transparent huge page in it, its pages numbered. */
async function hugePage(): Promise<{ mapping: Mapping; at: number }> {
  const mapping = anonymousMapping((3 * HUGE) / PAGE);
  const at = aligned(mapping);
  mapping.advise('hugePage', at, HUGE);
  for (let page = 0; page < HUGE / PAGE; page++) await mapping.write(at + page * PAGE, filled((page % 250) + 1, 1));
  if (hugeBytes(mapping) !== HUGE) mapping.advise('collapse', at, HUGE);
  expect(hugeBytes(mapping)).toBe(HUGE);
  return { mapping, at };
}

test('minor, then MADV_COLLAPSE: one huge page, the right bytes, no more messages', async (context) => {
  requires(context, 'uffd-minor');
  const memfd = memfdOf((3 * HUGE) / PAGE);
  // Address and offset must be the same in a huge page: mapped once to see where, then there with that offset.
  const trial = Mapping.map(memfd, { lengthBytes: 2 * HUGE });
  const offset = Number(trial.address % BigInt(HUGE));
  trial.unmap();
  const mapping = mappingOf(memfd, { offset, lengthBytes: 2 * HUGE });
  const at = aligned(mapping);
  if ((offset + at) % HUGE !== 0) context.skip('thp: no aligned mapping to be had');
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['minor']);
  for (let page = 0; page < HUGE / PAGE; page++) memfd.write(filled((page % 250) + 1), offset + at + page * PAGE);
  expect(uffd.continue({ region, page: at / PAGE, pages: HUGE / PAGE })).toEqual({ kind: 'installed', bytes: HUGE });
  mapping.advise('collapse', at, HUGE);
  await mapping.touch(at, HUGE, { signal: deadline() });
  expect(hugeBytes(mapping)).toBe(HUGE);
  const bytes = await mapping.read(at, HUGE, { signal: deadline() });
  for (let page = 0; page < HUGE / PAGE; page++) expect(bytes[page * PAGE]).toBe((page % 250) + 1);
  expect(uffd.queue).toEqual({ pending: 0, total: 0 });
});

test('move of a whole huge page: it stays whole', async (context) => {
  requires(context, 'uffd-move');
  const source = await hugePage();
  const mapping = anonymousMapping((3 * HUGE) / PAGE);
  const at = aligned(mapping);
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['missing']);
  const from = source.mapping.address + BigInt(source.at);
  expect(uffd.move({ region, page: at / PAGE, pages: HUGE / PAGE }, from)).toEqual({ kind: 'installed', bytes: HUGE });
  expect(hugeBytes(source.mapping)).toBe(0);
  expect(hugeBytes(mapping)).toBe(HUGE);
  const bytes = await mapping.read(at, HUGE, { signal: deadline() });
  for (let page = 0; page < HUGE / PAGE; page++) expect(bytes[page * PAGE]).toBe((page % 250) + 1);
});

test('move of a part of a huge page: it is split', async (context) => {
  requires(context, 'uffd-move');
  const source = await hugePage();
  const mapping = anonymousMapping(16);
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['missing']);
  const from = source.mapping.address + BigInt(source.at + 32 * PAGE);
  expect(uffd.move({ region, page: 0, pages: 16 }, from).kind).toBe('installed');
  const bytes = await mapping.read(0, 16 * PAGE, { signal: deadline() });
  for (let page = 0; page < 16; page++) expect(bytes[page * PAGE]).toBe(33 + page);
  expect(hugeBytes(source.mapping)).toBe(0);
  expect((await source.mapping.read(source.at + 48 * PAGE, 1))[0]).toBe(49);
});
