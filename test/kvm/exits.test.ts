// The decoder of exits, over bytes: every kind, and that what is not of this run is never decoded.
import { describe, expect, test } from 'vitest';
import { decodeExit } from '../../dist/kvm/exits.js';

const HEADER = 288;

/** kvm_run with a reason and the fields of its union: [offset in the union, bytes, value]. */
function run(reason: number, fields: readonly [number, 1 | 2 | 4 | 8, bigint][] = [], data: number[] = []): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(HEADER), Buffer.from(data)]);
  bytes.writeUInt32LE(reason, 8);
  for (const [offset, size, value] of fields) {
    const little = Buffer.alloc(8);
    little.writeBigUInt64LE(value);
    little.copy(bytes, 32 + offset, 0, size);
  }
  return bytes;
}

const io = run(2, [
  [0, 1, 1n],
  [1, 1, 2n],
  [2, 2, 0x3f8n],
  [4, 4, 3n],
], [1, 2, 3, 4, 5, 6]); // prettier-ignore
const mmio = run(6, [
  [0, 8, 0xfee00000n],
  [8, 4, 0x44332211n],
  [16, 4, 4n],
  [20, 1, 1n],
]);
const internalError = run(17, [
  [0, 4, 1n],
  [4, 4, 2n],
  [8, 8, 7n],
  [16, 8, 8n],
]);
const memoryFault = run(39, [
  [0, 8, 8n],
  [8, 8, 0x1000n],
  [16, 8, 0x2000n],
]);

describe('an exit of this run', () => {
  test.each([
    ['io', io, { direction: 'out', port: 0x3f8, size: 2, count: 3, data: Buffer.from([1, 2, 3, 4, 5, 6]) }],
    ['io', run(2), { direction: 'in', port: 0, size: 0, count: 0, data: Buffer.alloc(0) }],
    ['mmio', mmio, { address: 0xfee00000, lengthBytes: 4, write: true, data: Buffer.from([0x11, 0x22, 0x33, 0x44]) }],
    ['hlt', run(5), {}],
    ['shutdown', run(8), {}],
    ['intr', run(10), {}],
    ['fail-entry', run(9, [[0, 8, 2n ** 63n], [8, 4, 3n]]), { reason: 2n ** 63n, cpu: 3 }], // prettier-ignore
    ['internal-error', internalError, { suberror: 1, reason: 'an instruction could not be emulated', data: [7n, 8n] }],
    ['internal-error', run(17, [[0, 4, 77n], [4, 4, 999n]]), { suberror: 77, reason: 'suberror 77', data: new Array<bigint>(16).fill(0n) }], // prettier-ignore
    ['memory-fault', memoryFault, { address: 0x1000, sizeBytes: 0x2000, private: true, flags: 8n, code: 'OK' }],
  ])('%s', (type, bytes, fields) => {
    expect(decodeExit(0, bytes)).toEqual({ type, ...fields });
  });

  test('one that is not known keeps its bytes', () => {
    const exit = decodeExit(0, run(4711, [[0, 8, 0x0102030405060708n]]));
    expect(exit).toMatchObject({ type: 'unknown', reason: 4711 });
    expect((exit as { raw: Buffer }).raw.readBigUInt64LE()).toBe(0x0102030405060708n);
    expect((exit as { raw: Buffer }).raw).toHaveLength(256);
  });

  test('a data length the kernel cannot have written does not read on', () => {
    expect(decodeExit(0, run(6, [[16, 4, 0xffffffffn]]))).toMatchObject({ data: Buffer.alloc(8) });
  });
});

describe('an exit of an earlier run is not decoded', () => {
  test('after EINTR it is an interrupt, whatever is there', () => {
    expect(decodeExit(-4, io)).toEqual({ type: 'intr' });
  });

  test.each([
    [-14, 'EFAULT'],
    [-133, 'EHWPOISON'],
  ])('%i comes with a memory fault, and with nothing else', (errno, code) => {
    expect(decodeExit(errno, memoryFault)).toMatchObject({ type: 'memory-fault', address: 0x1000, code });
    expect(() => decodeExit(errno, io)).toThrow(expect.objectContaining({ errno, syscall: 'KVM_RUN' }) as Error);
  });

  test.each([-11, -12, -22])('%i is an error, even beside a memory fault', (errno) => {
    expect(() => decodeExit(errno, memoryFault)).toThrow(expect.objectContaining({ errno }) as Error);
  });
});
