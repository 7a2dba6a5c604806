// Firecracker's message: byte-exact vectors of its releases, and what a reader must put up with.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UffdError } from 'userfaultfd';
import { parseHandshake } from '../../dist/transports/dialects.js';
import { parseFirecracker } from '../../dist/transports/firecracker.js';
import { HandshakeCollector } from '../../dist/transports/handshake.js';

const PAGE = 4096;
const HUGE = 2 * 2 ** 20;

/** As each release writes it: 128 MiB in one region; 3.5 GiB and 512 MiB beyond the hole for devices. */
const vectors = {
  '1.1 to 1.6': '[{"base_host_virt_addr":140420123459584,"size":134217728,"offset":0}]',
  '1.7 to 1.11': '[{"base_host_virt_addr":140420123459584,"size":134217728,"offset":0,"page_size_kib":4096}]',
  '1.12 on':
    '[{"base_host_virt_addr":139637976727552,"size":3489660928,"offset":0,"page_size":4096,"page_size_kib":4096},' +
    '{"base_host_virt_addr":139641466388480,"size":805306368,"offset":3489660928,"page_size":4096,"page_size_kib":4096}]',
  '1.12 on, 2M':
    '[{"base_host_virt_addr":139637976727552,"size":134217728,"offset":0,"page_size":2097152,"page_size_kib":2097152}]',
};
const pageSizes = { '1.1 to 1.6': PAGE, '1.7 to 1.11': PAGE, '1.12 on': PAGE, '1.12 on, 2M': HUGE };

const chunk = (bytes: Uint8Array, descriptors: number[] = []) => ({ bytes, descriptors, controlTruncated: false });

describe('the releases', () => {
  it.each(Object.entries(vectors))('%s', (release, text) => {
    const { dialect, mappings } = parseHandshake(text, 1, PAGE);
    expect(dialect).toBe('firecracker');
    expect(mappings).toEqual(
      (JSON.parse(text) as { base_host_virt_addr: number; size: number; offset: number }[]).map((one) => ({
        base_host_virt_addr: one.base_host_virt_addr,
        size: one.size,
        offset: one.offset,
        page_size: pageSizes[release as keyof typeof pageSizes],
      })),
    );
  });

  it('the base page size of the machine, where the message says none', () => {
    expect(parseFirecracker(vectors['1.1 to 1.6'], 16384)![0]!.page_size).toBe(16384);
  });

  it('without page_size_kib, as it is to be from 2.0 on: a handoff of anonymous memory, which is answered', () => {
    const text = '[{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size":4096}]';
    expect(parseHandshake(text, 1, PAGE).dialect).toBe('handoff');
  });

  it('with a memfd beside it: a handoff', () => {
    expect(() => parseHandshake(vectors['1.1 to 1.6'], 2, PAGE)).toThrow(/page_size/);
  });

  it('page sizes that contradict each other are refused', () => {
    const text = '[{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size":4096,"page_size_kib":4}]';
    expect(() => parseFirecracker(text, PAGE)).toThrow(/page_size 4096 and page_size_kib 4 differ; both are bytes/);
  });
});

describe('the collector', () => {
  it('any pieces: the same text and descriptor', () => {
    const text = fc.constantFrom(...Object.values(vectors)).map((vector) => Buffer.from(vector));
    fc.assert(
      fc.property(text, fc.array(fc.nat(300), { maxLength: 20 }), (bytes, cuts) => {
        const at = [...new Set([0, ...cuts.filter((cut) => cut < bytes.length), bytes.length])].sort((a, b) => a - b);
        const descriptors: number[] = [];
        const collector = new HandshakeCollector(descriptors);
        const states = at
          .slice(1)
          .map((end, i) => collector.take(chunk(bytes.subarray(at[i], end), i === 0 ? [7] : [])));
        expect(states.pop()).toBe('complete');
        expect(new Set(states)).toEqual(new Set(states.length > 0 ? ['more'] : []));
        expect(collector.text).toBe(bytes.toString());
        expect(descriptors).toEqual([7]);
      }),
    );
  });

  it('nothing at first is looked for again, five times; nothing later is the end', () => {
    const collector = new HandshakeCollector([]);
    for (let i = 0; i < 5; i++) expect(collector.take(chunk(Buffer.alloc(0)))).toBe('again');
    expect(() => collector.take(chunk(Buffer.alloc(0)))).toThrow(/closed the connection before/);

    const late = new HandshakeCollector([]);
    expect(late.take(chunk(Buffer.alloc(0)))).toBe('again');
    expect(late.take(chunk(Buffer.from('[{"')))).toBe('more');
    expect(() => late.take(chunk(Buffer.alloc(0)))).toThrow(/closed the connection before/);
  });

  it('any bytes: a state or ERR_HANDOFF_REFUSED, and never more than it may hold', () => {
    const chunks = fc.array(fc.uint8Array({ maxLength: 70_000, size: 'max' }), { maxLength: 8 });
    fc.assert(
      fc.property(chunks, (pieces) => {
        const collector = new HandshakeCollector([]);
        try {
          for (const piece of pieces)
            if (collector.take(chunk(Buffer.concat([Buffer.from('['), piece]))) === 'complete') break;
          expect(Buffer.byteLength(collector.text, 'latin1')).toBeLessThanOrEqual(256 * 1024);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_HANDOFF_REFUSED' });
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe('the parser', () => {
  const field = fc.oneof(fc.integer(), fc.double(), fc.string(), fc.constant(null), fc.bigInt().map(Number));
  const names = ['base_host_virt_addr', 'size', 'offset', 'page_size', 'page_size_kib', 'other'];
  const mapping = fc.dictionary(fc.constantFrom(...names), field);

  it('any JSON, any text: mappings of four numbers, or ERR_HANDOFF_REFUSED', () => {
    const text = fc.oneof(
      fc.array(mapping).map((value) => JSON.stringify(value)),
      fc.json(),
      fc.string(),
    );
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 2 }), (json, descriptors) => {
        try {
          for (const one of parseHandshake(json, descriptors, PAGE).mappings) {
            expect(Object.keys(one).sort()).toEqual(['base_host_virt_addr', 'offset', 'page_size', 'size']);
            for (const value of Object.values(one)) expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(UffdError);
          expect((error as UffdError).code).toBe('ERR_HANDOFF_REFUSED');
        }
      }),
      { numRuns: 500 },
    );
  });
});
