// Working sets: what a recorder notes, and which pages of a session it comes back as.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PageRanges, rangesOf } from '../../dist/server/page-ranges.js';
import { WorkingSetRecorder } from '../../dist/server/working-set.js';

const PAGE = 4096;

/** Disjoint extents from a list of gaps and lengths. */
const extents = fc.array(fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 5 })), { maxLength: 20 }).map((list) => {
  let at = 0;
  return list.flatMap(([gap, pages]) => {
    const first = at + gap + 1;
    at = first + pages;
    return [first, pages];
  });
});
const pagesOf = (flat: ArrayLike<number>) =>
  Array.from({ length: flat.length / 2 }, (_, i) => i).flatMap((i) =>
    Array.from({ length: flat[2 * i + 1]! }, (_, page) => flat[2 * i]! + page),
  );

describe('the recorder', () => {
  it('gives back what was asked for, in extents', () => {
    fc.assert(
      fc.property(extents, fc.array(fc.tuple(fc.nat(190), fc.integer({ min: 1, max: 9 }))), (earlier, asked) => {
        const before = { pageSize: PAGE, extents: Float64Array.from(earlier) };
        const recorder = WorkingSetRecorder.create(200 * PAGE - 1, PAGE, before);
        const other = new WorkingSetRecorder(recorder.shared);
        for (const [first, pages] of asked) other.asked(first, pages);
        const expected = new Set([...pagesOf(earlier), ...asked.flatMap((one) => pagesOf(one))]);
        const { extents: recorded } = recorder.workingSet() ?? { extents: [] };
        expect(pagesOf(recorded)).toEqual([...expected].filter((page) => page < 200).sort((a, b) => a - b));
        for (let i = 2; i < recorded.length; i += 2) {
          expect(recorded[i]).toBeGreaterThan(recorded[i - 2]! + recorded[i - 1]!);
        }
      }),
    );
  });

  it('records pages of one size: that of the first session', () => {
    const recorder = WorkingSetRecorder.create(2 ** 21, PAGE);
    expect(recorder.workingSet()).toBeUndefined();
    expect(recorder.takes(PAGE)).toBe(true);
    expect(recorder.takes(2 ** 21)).toBe(false);
    expect(recorder.takes(PAGE)).toBe(true);
    expect(recorder.workingSet()).toEqual({ pageSize: PAGE, extents: new Float64Array() });
  });
});

describe('rangesOf', () => {
  it('are the pages of the session that show a page of the extents', () => {
    const regions = fc.array(fc.tuple(fc.nat(100), fc.integer({ min: 1, max: 30 })), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(extents, regions, (flat, sizes) => {
        let firstPage = 0;
        const served = sizes.map(([offset, pages], index) => {
          const region = { index, start: 0, end: 0, offset: offset * PAGE, firstPage, pages };
          firstPage += pages;
          return region;
        });
        const bounds = rangesOf(served, Float64Array.from(flat), PAGE);
        const wanted = new Set(pagesOf(flat));
        const expected = served.flatMap(({ offset, firstPage: first, pages }) =>
          Array.from({ length: pages }, (_, i) => i)
            .filter((i) => wanted.has(offset / PAGE + i))
            .map((i) => first + i),
        );
        const states = new Uint8Array(firstPage);
        const ranges = new PageRanges(bounds);
        const walked: number[] = [];
        for (let page = ranges.next(states, 0, 1000); page >= 0; page = ranges.next(states, 0, 1000)) {
          walked.push(page);
          ranges.pass(page + 1);
        }
        expect(walked).toEqual(expected);
        expect(ranges.ended).toBe(true);
      }),
    );
  });

  it('narrow a window to the range that has the page, and none where no range has it', () => {
    fc.assert(
      fc.property(extents, fc.nat(200), fc.nat(40), fc.nat(40), (flat, page, before, after) => {
        const bounds = flat.map((_, i) => (i % 2 === 0 ? flat[i]! : flat[i - 1]! + flat[i]!));
        const first = Math.max(0, page - before);
        const window = { first, pages: page + after + 1 - first };
        const wanted = new Set(pagesOf(flat));
        const inRange = new PageRanges(bounds).narrow(page, window);
        expect(inRange).toBe(wanted.has(page));
        if (!inRange) {
          expect(window).toEqual({ first, pages: page + after + 1 - first });
          return;
        }
        const narrowed = Array.from({ length: window.pages }, (_, i) => window.first + i);
        expect(narrowed).toContain(page);
        expect(narrowed.every((one) => wanted.has(one) && one >= first && one <= page + after)).toBe(true);
        // As much of the range as the window has: what is next to it is not wanted, or not in the window.
        for (const next of [window.first - 1, window.first + window.pages]) {
          const sameRange = flat.some(
            (_, i) =>
              i % 2 === 0 &&
              next >= flat[i]! &&
              next < flat[i]! + flat[i + 1]! &&
              page >= flat[i]! &&
              page < flat[i]! + flat[i + 1]!,
          );
          expect(sameRange && next >= first && next <= page + after).toBe(false);
        }
      }),
    );
  });

  it('walks no further than it may at once', () => {
    const states = new Uint8Array(100).fill(2);
    states[60] = 0;
    const ranges = new PageRanges([0, 100]);
    expect([ranges.next(states, 0, 50), ranges.next(states, 0, 50)]).toEqual([-1, 60]);
  });
});
