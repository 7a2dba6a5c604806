// Poison for what is absent: every such page fails, and every other keeps what it has.
import { beforeEach, expect, test } from 'vitest';
import { MemoryFaultError } from '../../dist/index.js';
import { absentRuns, poisonAbsent, presentPages } from '../../dist/vmm/poison.js';
import { deadline } from '../support/deadline.js';
import { PAGE, filled, registeredAnonymous, registeredMemfd } from '../support/memory.js';
import { requires } from '../support/requires.js';

const PAGES = 70_000;

beforeEach((context) => {
  requires(context, 'uffd', 'uffd-minor', 'uffd-poison');
});

test.each([
  ['memfd', () => registeredMemfd(PAGES)],
  ['anonymous', () => registeredAnonymous(PAGES)],
])('%s', async (_, make) => {
  const { mapping, uffd, region } = make();
  // On both sides of what is looked at in one go.
  const present = [0, 1, 5, 65_535, 65_536, PAGES - 1];
  for (const page of present) uffd.copy({ region, page }, filled(page % 251));
  expect(presentPages(region)).toBe(present.length);
  expect([...absentRuns(region)]).toEqual([
    { page: 2, pages: 3 },
    { page: 6, pages: 65_529 },
    { page: 65_537, pages: PAGES - 1 - 65_537 },
  ]);
  await poisonAbsent(uffd, region);
  for (const page of present) expect(await mapping.read(page * PAGE, PAGE)).toEqual(filled(page % 251));
  for (const page of [2, 4, 6, 65_534, 65_537, PAGES - 2]) {
    await expect(mapping.read(page * PAGE, 1, { signal: deadline() }), `${page}`).rejects.toThrow(MemoryFaultError);
  }
});
