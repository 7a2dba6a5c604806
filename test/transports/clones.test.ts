// The clones' dialect: byte-exact vectors, the parser, and what is read of a clone's memory.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UffdError } from 'userfaultfd';
import { CLONES_GREETING, cloneMemoryOf, parseClone } from '../../dist/transports/clones.js';
import { HandshakeCollector } from '../../dist/transports/handshake.js';

/** As a clone of 2 GiB in two regions writes it. */
const answer =
  '[{"base_host_virt_addr":139637976727552,"size":1073741824,"offset":0,"page_size":4096,"page_size_kib":4096},' +
  '{"base_host_virt_addr":139641466388480,"size":1073741824,"offset":1073741824,"page_size":4096,"page_size_kib":4096}]';

describe('what goes over the socket, byte for byte', () => {
  it('the greeting', () => {
    expect(Buffer.from(CLONES_GREETING).toString('hex')).toBe('4643564d5f554646445f4d494e4f525f4241434b494e47');
  });

  it('the answer', () => {
    const descriptors: number[] = [];
    const collector = new HandshakeCollector(descriptors);
    expect(collector.take({ bytes: Buffer.from(answer), descriptors: [9], controlTruncated: false })).toBe('complete');
    expect(descriptors).toEqual([9]);
    expect(parseClone(collector.text)).toEqual({
      dialect: 'clones',
      mappings: [
        { base_host_virt_addr: 139637976727552, size: 2 ** 30, offset: 0, page_size: 4096 },
        { base_host_virt_addr: 139641466388480, size: 2 ** 30, offset: 2 ** 30, page_size: 4096 },
      ],
    });
  });

  it('the page size has to be told', () => {
    expect(() => parseClone('[{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size_kib":4096}]')).toThrow(
      /page_size/,
    );
  });

  it('any text: mappings, or ERR_HANDOFF_REFUSED', () => {
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .array(fc.dictionary(fc.constantFrom('base_host_virt_addr', 'size', 'offset', 'page_size'), fc.double()))
        .map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(text, (json) => {
        try {
          for (const one of parseClone(json).mappings) {
            for (const value of Object.values(one)) expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(UffdError);
          expect((error as UffdError).code).toBe('ERR_HANDOFF_REFUSED');
        }
      }),
    );
  });
});

describe('the memory of a clone', () => {
  const smaps = `55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
Rss:                  64 kB
Anonymous:            64 kB
VmFlags: rd wr mr mw me ac
7f0000000000-7f0000100000 rw-p 00000000 00:01 1234                       /memfd:uffd-backing (deleted)
Size:               1024 kB
Rss:                 512 kB
Anonymous:           128 kB
VmFlags: rd wr mr mw me um
7f0000100000-7f0000200000 rw-p 00100000 00:01 1234                       /memfd:uffd-backing (deleted)
Rss:                 256 kB
Anonymous:             0 kB
`;

  it('of its regions alone, also where a mapping has been split', () => {
    const regions = [{ start: 0x7f0000000000n, size: 2 * 2 ** 20 }];
    expect(cloneMemoryOf(smaps, regions)).toEqual({ sharedBytes: 640 * 1024, privateBytes: 128 * 1024 });
    expect(cloneMemoryOf(smaps, [{ start: 0x7f0000100000n, size: 2 ** 20 }])).toEqual({
      sharedBytes: 256 * 1024,
      privateBytes: 0,
    });
  });

  it('of regions that are one mapping, and nothing where a mapping has more in it', () => {
    const half = 2 ** 19;
    const regions = [
      { start: 0x7f0000080000n, size: half },
      { start: 0x7f0000000000n, size: half },
    ];
    expect(cloneMemoryOf(smaps, regions)).toEqual({ sharedBytes: 384 * 1024, privateBytes: 128 * 1024 });
    expect(cloneMemoryOf(smaps, regions.slice(0, 1))).toBeUndefined();
  });

  it('any text: numbers, or nothing', () => {
    const lines = fc.oneof(fc.string(), fc.constantFrom(...smaps.split('\n')));
    fc.assert(
      fc.property(fc.array(lines), (some) => {
        const told = cloneMemoryOf(some.join('\n'), [{ start: 0n, size: 2 ** 48 }]);
        for (const bytes of Object.values(told ?? {})) expect(Number.isFinite(bytes)).toBe(true);
      }),
    );
  });
});
