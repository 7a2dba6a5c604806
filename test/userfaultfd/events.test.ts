import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Userfaultfd } from '../../dist/index.js';
import { MESSAGE_BYTES, decodeMessage } from '../../dist/userfaultfd/events.js';
import { Region } from '../../dist/userfaultfd/region.js';

const START = 0x7000_0000_0000n;
const region = new Region({
  start: START,
  lengthBytes: 16 * 4096,
  pageSize: 4096,
  mapping: undefined,
  kind: undefined,
  answers: new Set(),
});
const decoding = {
  regionAt: (address: bigint) => (region.contains(address) ? region : undefined),
  // Descriptors that arrived with the messages are made up here, and must not be closed.
  adoptChild: (fd: number) => ({ fd }) as unknown as Userfaultfd,
};

function message(event: number, words: readonly bigint[]): DataView {
  const view = new DataView(new ArrayBuffer(MESSAGE_BYTES));
  view.setUint8(0, event);
  for (const [index, word] of words.entries()) view.setBigUint64(8 + index * 8, word, true);
  return view;
}

const address = START + 3n * 4096n + 17n;
const known = { type: 'pagefault', address, page: 3, threadId: 42 };

test.each([
  ['missing read', message(0x12, [0n, address, 42n]), { ...known, reason: 'missing', write: false }],
  ['missing write', message(0x12, [1n, address, 42n]), { ...known, reason: 'missing', write: true }],
  ['minor read', message(0x12, [4n, address, 42n]), { ...known, reason: 'minor', write: false }],
  ['minor write', message(0x12, [5n, address, 42n]), { ...known, reason: 'minor', write: true }],
  ['wp write', message(0x12, [3n, address, 42n]), { ...known, reason: 'wp', write: true }],
  ['rwp read', message(0x12, [8n, address, 42n]), { ...known, reason: 'rwp', write: false }],
  [
    'a fault outside every region',
    message(0x12, [0n, START - 1n, 0n]),
    { type: 'unknown-pagefault', reason: 'missing', write: false, address: START - 1n, threadId: 0 },
  ],
  ['fork', message(0x13, [77n]), { type: 'fork', userfaultfd: { fd: 77 } }],
  ['remap', message(0x14, [1n, 2n, 3n]), { type: 'remap', from: 1n, to: 2n, lengthBytes: 3n }],
  ['remove', message(0x15, [1n, 2n]), { type: 'remove', start: 1n, end: 2n }],
  ['unmap', message(0x16, [1n, 2n ** 64n - 1n]), { type: 'unmap', start: 1n, end: 2n ** 64n - 1n }],
  ['an event of the future', message(0x17, []), { type: 'unknown', event: 0x17 }],
])('%s', (_, bytes, expected) => {
  expect(decodeMessage(bytes, 0, decoding)).toMatchObject(expected);
});

test('an unknown event keeps its own 32 bytes, and only them', () => {
  const two = new Uint8Array(2 * MESSAGE_BYTES).fill(1);
  two[MESSAGE_BYTES] = 0x99;
  const event = decodeMessage(new DataView(two.buffer), MESSAGE_BYTES, decoding);
  two.fill(0);
  expect(event).toEqual({ type: 'unknown', event: 0x99, bytes: Uint8Array.of(0x99, ...Array<number>(31).fill(1)) });
});

test('32 random bytes never throw, and a page of a region is inside it', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: MESSAGE_BYTES, maxLength: MESSAGE_BYTES }),
      fc.constantFrom(undefined, 0x12, 0x13, 0x14, 0x15, 0x16),
      fc.option(fc.bigInt({ min: START - 4096n, max: START + 17n * 4096n }), { nil: undefined }),
      (bytes, event, near) => {
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        if (event !== undefined) view.setUint8(0, event);
        if (near !== undefined) view.setBigUint64(16, near, true);
        const decoded = decodeMessage(view, 0, decoding);
        if (decoded.type !== 'pagefault') return;
        expect(Number.isInteger(decoded.page) && decoded.page >= 0 && decoded.page < region.pages).toBe(true);
      },
    ),
    { numRuns: 2000 },
  );
});
