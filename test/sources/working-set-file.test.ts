// Working sets in files: what is written is read again, and nothing else is.
import { appendFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { UffdError } from 'userfaultfd';
import { digestOf } from '../../dist/sources/digest.js';
import { checkBelongs, parseWorkingSet, readWorkingSet, writeWorkingSet } from '../../dist/sources/working-set-file.js';

const folder = mkdtempSync(join(tmpdir(), 'uffd-working-set-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const snapshotPath = join(folder, 'snapshot');
writeFileSync(snapshotPath, Buffer.alloc(100_000, 'x'));
const snapshot = await digestOf(snapshotPath);
const recorded = { snapshot, workingSet: { pageSize: 4096, extents: Float64Array.of(0, 2, 7, 18) } };
const path = join(folder, 'set');
writeWorkingSet(path, recorded);
const text = readFileSync(path, 'utf8');

it('is read as it was written, and replaced as a whole', () => {
  expect(readWorkingSet(path)).toEqual(recorded);
  writeWorkingSet(path, recorded);
  expect(readFileSync(path, 'utf8')).toBe(text);
  expect(readdirSync(folder).sort()).toEqual(['set', 'snapshot']);
});

describe('refused', () => {
  const changed = (change: object) => JSON.stringify({ ...(JSON.parse(text) as object), ...change });
  it.each([
    ['no JSON', text.slice(0, -5), /not JSON/],
    ['something else', '{"format":"other"}', /is no working set: format/],
    ['half an extent', changed({ extents: [1] }), /no length/],
    ['an empty extent', changed({ extents: [1, 0] }), /extent 0 is empty/],
    ['extents that overlap', changed({ extents: [0, 4, 3, 1] }), /extent 1 is empty, or not after/],
    ['an extent beyond the snapshot', changed({ extents: [24, 2] }), /which has 25 pages/],
    ['a page size that is none', changed({ pageSize: 4095 }), /pageSize: must be a power of two/],
  ])('%s', (_, wrong, reason) => {
    expect(() => parseWorkingSet(wrong, 'set')).toThrow(reason);
  });

  it('another snapshot: of another size, or with other bytes', () => {
    const other = (change: object) => ({ ...snapshot, ...change });
    expect(() => {
      checkBelongs('set', recorded, other({ sizeBytes: 1 }));
    }).toThrow(/of a snapshot of 100000 bytes, this one has 1: record it again/);
    expect(() => {
      checkBelongs('set', recorded, other({ sha256: 'f'.repeat(64) }));
    }).toThrow(/of another snapshot/);
    checkBelongs('set', recorded, other({ file: { device: '1', inode: '1', mtimeNs: '1', ctimeNs: '1' } }));
  });

  it('any text: a working set inside its snapshot, or ERR_RECORD_REFUSED', () => {
    const mutated = fc
      .tuple(fc.nat(text.length), fc.nat(20), fc.string({ maxLength: 6 }))
      .map(([at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut));
    const numbers = fc.array(fc.oneof(fc.nat(30), fc.double(), fc.integer())).map((extents) => changed({ extents }));
    fc.assert(
      fc.property(fc.oneof(mutated, numbers, fc.json(), fc.string()), (input) => {
        try {
          const { workingSet, snapshot: of } = parseWorkingSet(input, 'set');
          let end = 0;
          for (let i = 0; i < workingSet.extents.length; i += 2) {
            expect(workingSet.extents[i]).toBeGreaterThanOrEqual(end);
            end = workingSet.extents[i]! + workingSet.extents[i + 1]!;
          }
          expect(end).toBeLessThanOrEqual(Math.ceil(of.sizeBytes / workingSet.pageSize));
        } catch (error) {
          expect(error).toBeInstanceOf(UffdError);
          expect((error as UffdError).code).toBe('ERR_RECORD_REFUSED');
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('digestOf', () => {
  it('takes the digest of the same file from one that is known, and computes that of a changed one', async () => {
    const known = { ...snapshot, sha256: 'a'.repeat(64) };
    expect((await digestOf(snapshotPath, [known])).sha256).toBe(known.sha256);
    const copy = join(folder, 'snapshot');
    appendFileSync(copy, '');
    writeFileSync(copy, Buffer.alloc(100_000, 'y'));
    const again = await digestOf(copy, [known]);
    expect(again.sha256).not.toBe(known.sha256);
    expect(again.sha256).toMatch(/^[0-9a-f]{64}$/);
  });
});
