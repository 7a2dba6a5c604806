// UFFDIO_MOVE: pages that change their place without a copy, whole huge pages and parts of them; and what cannot be moved.
import { beforeEach, describe, expect, test } from 'vitest';
import { pageEntries } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { HUGE } from '../support/huge-pages.js';
import { PAGE, anonymousMapping, filled, mappingOf, memfdOf, nextFault, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { alignedOffset, hugeBytes, hugePage } from '../support/thp.js';

const filledIn = (first: number, pages: number) =>
  Buffer.concat(Array.from({ length: pages }, (_, page) => filled(first + page)));

beforeEach((context) => {
  requires(context, 'uffd');
});

describe('on anon', () => {
  test('move: the very page, to whoever waits for it; a hole in the source is absent, or left out', async (context) => {
    requires(context, 'uffd-move');
    const source = anonymousMapping(4);
    await source.write(0, filledIn(1, 3));
    const mapping = anonymousMapping(4);
    const uffd = userfaultfd();
    const region = uffd.register(mapping, ['missing']);
    const reading = mapping.read(PAGE, PAGE, { signal: deadline() });
    const fault = await nextFault(uffd);
    expect(uffd.move(fault, source.address + BigInt(PAGE))).toEqual({ kind: 'installed', bytes: PAGE });
    expect(await reading).toEqual(filled(2));
    expect(pageEntries(source).map((entry) => entry.present)).toEqual([true, false, true, false]);
    expect(uffd.move({ region, page: 1 }, source.address).kind).toBe('already');
    expect(uffd.move({ region, page: 2, pages: 2 }, source.address)).toEqual({ kind: 'partial', bytes: PAGE });
    expect(uffd.move({ region, page: 3 }, source.address).kind).toBe('absent');
    const holes = { allowSourceHoles: true };
    const from = source.address + BigInt(2 * PAGE);
    expect(uffd.move({ region, page: 3 }, from, { ...holes, dontWake: true }).kind).toBe('installed');
    expect(uffd.move({ region, page: 0 }, from, holes).kind).toBe('installed');
    expect(pageEntries(mapping).map((entry) => entry.present)).toEqual([false, true, true, true]);
    expect(await mapping.read(PAGE, 3 * PAGE, { signal: deadline() })).toEqual(
      Buffer.concat([filled(2), filled(1), filled(3)]),
    );
  });

  test('move-pmd: a whole huge page stays whole', async (context) => {
    requires(context, 'uffd-move', 'thp', 'pagemap-scan');
    const source = await hugePage();
    const mapping = anonymousMapping((3 * HUGE) / PAGE);
    const at = alignedOffset(mapping);
    const uffd = userfaultfd();
    const region = uffd.register(mapping, ['missing']);
    const from = source.mapping.address + BigInt(source.at);
    expect(uffd.move({ region, page: at / PAGE, pages: HUGE / PAGE }, from)).toEqual({
      kind: 'installed',
      bytes: HUGE,
    });
    expect(hugeBytes(source.mapping)).toBe(0);
    expect(hugeBytes(mapping)).toBe(HUGE);
    const bytes = await mapping.read(at, HUGE, { signal: deadline() });
    for (let page = 0; page < HUGE / PAGE; page++) expect(bytes[page * PAGE]).toBe((page % 250) + 1);
  });

  test('move-pmd-split: of a part of a huge page the rest stays, split', async (context) => {
    requires(context, 'uffd-move', 'thp', 'pagemap-scan');
    const source = await hugePage();
    const mapping = anonymousMapping(16);
    const uffd = userfaultfd();
    const region = uffd.register(mapping, ['missing']);
    const from = source.mapping.address + BigInt(source.at + 32 * PAGE);
    expect(uffd.move({ region, page: 0, pages: 16 }, from).kind).toBe('installed');
    expect(await mapping.read(0, 16 * PAGE, { signal: deadline() })).toEqual(filledIn(33, 16));
    expect(hugeBytes(source.mapping)).toBe(0);
    expect((await source.mapping.read(source.at + 48 * PAGE, 1))[0]).toBe(49);
  });

  test('across mappings: not into a mapping that is not ours, not between unlike ones, not beyond the source', async (context) => {
    requires(context, 'uffd-move');
    const source = anonymousMapping(2);
    await source.write(0, filledIn(1, 2));
    const mapping = anonymousMapping(2);
    const uffd = userfaultfd();
    const region = uffd.register(mapping, ['missing']);
    const refused = expect.objectContaining({ code: 'EINVAL', syscall: 'UFFDIO_MOVE' }) as Error;
    // Another userfaultfd's: UFFDIO_MOVE is the one answer that asks whose it is.
    const foreign = userfaultfd();
    const elsewhere = anonymousMapping(2);
    expect(() => foreign.move({ region, page: 0 }, source.address)).toThrow(refused);
    foreign.register(elsewhere, ['missing']);
    expect(() => foreign.move({ region, page: 0 }, source.address)).toThrow(refused);
    // A page of a memfd, and one that may not be written.
    const memfd = memfdOf(1);
    memfd.write(filled(1), 0);
    const shared = mappingOf(memfd);
    await shared.touch();
    expect(() => uffd.move({ region, page: 0 }, shared.address)).toThrow(refused);
    source.protect('read', 0, PAGE);
    expect(() => uffd.move({ region, page: 0 }, source.address)).toThrow(refused);
    source.protect('readwrite', 0, PAGE);
    // Where there is no mapping at all.
    const gone = anonymousMapping(1);
    const { address } = gone;
    gone.unmap();
    expect(uffd.move({ region, page: 0 }, address).kind).toBe('absent');
    expect(uffd.move({ region, page: 0, pages: 2 }, source.address).kind).toBe('installed');
    expect(await mapping.read(0, 2 * PAGE, { signal: deadline() })).toEqual(filledIn(1, 2));
  });
});

test('move of shared memory is refused before the call: no kernel can', () => {
  const mapping = mappingOf(memfdOf(1));
  const uffd = userfaultfd();
  const region = uffd.register(mapping, ['missing']);
  expect(() => uffd.move({ region, page: 0 }, mapping.address)).toThrow(
    expect.objectContaining({ code: 'ERR_NOT_FOR_MEMORY' }),
  );
});
