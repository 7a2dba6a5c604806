// The handshake's JSON, as an enemy would write it.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UffdError } from 'userfaultfd';
import { type WireMapping, checkMappings, parseMappings } from '../../dist/transports/mappings.js';

const PAGE = 4096;
const SOURCE = 100 * PAGE - 1;
const one = (change: Partial<WireMapping> = {}): WireMapping => ({
  base_host_virt_addr: 0x7f00_0000_0000,
  size: PAGE,
  offset: 0,
  page_size: PAGE,
  ...change,
});
const check = (...mappings: WireMapping[]) => checkMappings(mappings, SOURCE, PAGE);

describe('parseMappings', () => {
  it.each([
    ['nothing', '', /not JSON/],
    ['half an array', '[{"size":1', /not JSON/],
    ['an object', '{}', /not an array of mappings/],
    ['no mapping', '[]', /not an array/],
    ['too many', JSON.stringify(Array.from({ length: 1025 }, () => one())), /not an array/],
    [
      'a string for a number',
      '[{"base_host_virt_addr":"0x1000","size":4096,"offset":0,"page_size":4096}]',
      /base_host_virt_addr/,
    ],
    ['a negative number', JSON.stringify([one({ offset: -1 })]), /offset/],
    ['a fraction', JSON.stringify([one({ size: 4096.5 })]), /size/],
    [
      'beyond 2^53',
      '[{"base_host_virt_addr":18446744073709547520,"size":4096,"offset":0,"page_size":4096}]',
      /base_host/,
    ],
    ['a missing field', '[{"base_host_virt_addr":4096,"size":4096,"offset":0}]', /page_size/],
    ['a prototype', '[{"__proto__":{"size":1}}]', /not an array of mappings/],
  ])('refuses %s', (_, text, reason) => {
    expect(() => parseMappings(text)).toThrow(reason);
  });

  it('takes fields it does not know', () => {
    expect(parseMappings(JSON.stringify([{ ...one(), page_size_kib: 4096 }]))).toEqual([one()]);
  });

  it('a negative zero is zero', () => {
    const [mapping] = parseMappings(JSON.stringify([one()]).replace('"offset":0', '"offset":-0'));
    expect(Object.is(mapping!.offset, 0)).toBe(true);
  });

  it('any text: an array of mappings or ERR_HANDOFF_REFUSED, nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.array(fc.dictionary(fc.string(), fc.integer())).map((x) => JSON.stringify(x)),
        ),
        (text) => {
          try {
            expect(parseMappings(text).length).toBeGreaterThan(0);
          } catch (error) {
            expect(error).toBeInstanceOf(UffdError);
            expect((error as UffdError).code).toBe('ERR_HANDOFF_REFUSED');
          }
        },
      ),
    );
  });
});

describe('checkMappings', () => {
  it.each<[string, WireMapping[], RegExp]>([
    ['size 0', [one({ size: 0 })], /size is 0/],
    [
      'an address that is no multiple of the page',
      [one({ base_host_virt_addr: 0x7f00_0000_0001 })],
      /multiples of page_size/,
    ],
    ['a size that is none', [one({ size: PAGE + 1 })], /multiples of page_size/],
    ['an offset that is none', [one({ offset: 12 })], /multiples of page_size/],
    ['address 0', [one({ base_host_virt_addr: 0 })], /user address space/],
    ['an end beyond the address space', [one({ base_host_virt_addr: 2 ** 52 })], /user address space/],
    ['an end after the last page', [one({ offset: 100 * PAGE })], /after the last page of the source/],
    ['an offset near 2^53', [one({ offset: Number.MAX_SAFE_INTEGER - (PAGE - 1) })], /after the last page/],
    [
      'a size near 2^53',
      [one({ size: Number.MAX_SAFE_INTEGER - (PAGE - 1) })],
      /user address space|after the last page/,
    ],
    ['a page size of 0', [one({ page_size: 0 })], /power of two/],
    ['a page size of 3', [one({ page_size: 3 })], /power of two/],
    ["a page size below the machine's", [one({ page_size: 2048 })], /power of two/],
    ['a page size of 1 GiB', [one({ page_size: 2 ** 30 })], /power of two/],
    ['two page sizes', [one(), one({ page_size: 2 * PAGE, offset: 2 * PAGE })], /page_size differs/],
    [
      'overlapping addresses',
      [one({ size: 2 * PAGE }), one({ base_host_virt_addr: 0x7f00_0000_1000, offset: 4 * PAGE })],
      /addresses/,
    ],
    ['overlapping offsets', [one(), one({ base_host_virt_addr: 0x7f10_0000_0000 })], /offsets/],
  ])('refuses %s', (_, mappings, reason) => {
    expect(() => check(...mappings)).toThrow(reason);
  });

  it('accepts the last, partial page of the source, and not one more', () => {
    expect(check(one({ offset: 99 * PAGE }))).toBe(PAGE);
    expect(() => check(one({ offset: 99 * PAGE, size: 2 * PAGE }))).toThrow(/last page/);
  });

  it('what it accepts is disjoint and inside the source', () => {
    const mapping = fc.record({
      base_host_virt_addr: fc.nat(64).map((n) => 0x7f00_0000_0000 + n * PAGE),
      size: fc.nat(8).map((n) => n * PAGE),
      offset: fc.nat(110).map((n) => n * PAGE),
      page_size: fc.constant(PAGE),
    });
    fc.assert(
      fc.property(fc.array(mapping, { minLength: 1, maxLength: 5 }), (mappings) => {
        const pages = (key: 'base_host_virt_addr' | 'offset') =>
          mappings.flatMap((one) => Array.from({ length: one.size / PAGE }, (_, i) => one[key] / PAGE + i));
        const valid =
          mappings.every(({ size, offset }) => size > 0 && offset + size <= 100 * PAGE) &&
          (['base_host_virt_addr', 'offset'] as const).every((key) => new Set(pages(key)).size === pages(key).length);
        if (valid) expect(check(...mappings)).toBe(PAGE);
        else expect(() => check(...mappings)).toThrow(UffdError);
      }),
    );
  });
});
