// The holes of a sparse file: which pages are zeroes without reading, compared page by page with the file.
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { Holes } from '../../dist/sources/holes.js';
import { native } from '../../dist/native/load.js';

const folder = mkdtempSync(join(tmpdir(), 'uffd-holes-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('extentOf', () => {
  it('is a hole exactly where the whole page is in one; the extent is of that kind, and has the page', () => {
    const cuts = fc.uniqueArray(fc.nat(400), { maxLength: 12 });
    fc.assert(
      fc.property(cuts, fc.constantFrom(1, 4, 8), fc.integer({ min: 1, max: 400 }), (unsorted, page, size) => {
        const bounds = unsorted.sort((a, b) => a - b).filter((bound) => bound <= size);
        if (bounds.length % 2 === 1) bounds.push(Math.max(size, bounds.at(-1)! + 1));
        const inHole = (byte: number) =>
          bounds.some((end, i) => i % 2 === 1 && byte >= bounds[i - 1]! && (byte < end || end >= size));
        const wholly = (at: number) => Array.from({ length: page }, (_, i) => at + i).every(inHole);
        const holes = new Holes(Float64Array.from(bounds), size);
        const extent = { start: 0, end: 0 };
        for (let at = 0; at < size; at += page) {
          const hole = holes.extentOf(at, page, extent);
          if (hole !== wholly(at)) return false;
          if (extent.start > at || extent.end < at + page || extent.start % page !== 0) return false;
          if (extent.end !== Infinity && extent.end % page !== 0) return false;
          for (let other = extent.start; other < Math.min(extent.end, size); other += page) {
            if (hole && !wholly(other)) return false;
          }
        }
        return true;
      }),
      { numRuns: 500 },
    );
  });
});

describe('SourceFile.holes', () => {
  it('finds what was never written, and no more of them than asked for', () => {
    const path = join(folder, 'sparse');
    const fd = openSync(path, 'w');
    ftruncateSync(fd, 8 * 2 ** 20);
    writeSync(fd, Buffer.alloc(65536, 1), 0, 65536, 2 ** 20);
    writeSync(fd, Buffer.alloc(65536, 2), 0, 65536, 4 * 2 ** 20);
    closeSync(fd);
    const file = new (native().SourceFile)(path);
    const holes = file.holes(100);
    expect(holes.length).toBeGreaterThan(0);
    expect(file.holes(1)).toEqual(holes.slice(0, 2));
    const bytes = readFileSync(path);
    for (let i = 0; i < holes.length; i += 2) {
      expect(holes[i]).toBeLessThan(holes[i + 1]!);
      expect(bytes.subarray(holes[i], holes[i + 1]).every((byte) => byte === 0)).toBe(true);
    }
    expect(holes.at(-1)).toBe(8 * 2 ** 20);
    file.close();
  });

  it('a file without holes has none', () => {
    const path = join(folder, 'full');
    const fd = openSync(path, 'w');
    writeSync(fd, Buffer.alloc(10_000, 1));
    closeSync(fd);
    const file = new (native().SourceFile)(path);
    expect(file.holes(100)).toEqual([]);
    file.close();
  });
});
