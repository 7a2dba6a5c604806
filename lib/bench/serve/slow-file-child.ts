// The process of SlowFile: DELAY-MS, with /dev/fuse at descriptor 4. One folder with one file, `snapshot`; each read of
// it is answered after the delay. Ends with its parent, or when it is unmounted.
import { read, writeSync } from 'node:fs';
import { SLOW_FILE_BYTES } from './slow-file.js';

const DEVICE = 4;
const HEADER_IN = 40;
const HEADER_OUT = 16;
const ROOT = 1n;
const FILE = 2n;
const [ENOENT, ENOSYS] = [-2, -38];
/** Of the kernel's include/uapi/linux/fuse.h. */
const Opcode = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  statfs: 17,
  release: 18,
  flush: 25,
  init: 26,
  interrupt: 36,
  batchForget: 42,
} as const;
const VALID_SECONDS = 3600n;

const delayMs = Number(process.argv[2]);
process.on('SIGINT', () => undefined);
process.on('disconnect', () => {
  process.exit();
});
process.once('message', next);
process.send?.('ready');

/** One request after the other; the answers to reads come later, many at a time. */
function next(): void {
  const buffer = Buffer.alloc(2 ** 18);
  read(DEVICE, buffer, 0, buffer.length, null, (error, length) => {
    // Unmounted.
    if (error?.code === 'ENODEV') process.exit();
    if (error === null) answer(buffer.subarray(0, length));
    next();
  });
}

function answer(request: Buffer): void {
  const unique = request.readBigUInt64LE(8);
  const node = request.readBigUInt64LE(16);
  const reply = (payload: Buffer, error = 0) => {
    const header = Buffer.alloc(HEADER_OUT);
    header.writeUInt32LE(HEADER_OUT + payload.length, 0);
    header.writeInt32LE(error, 4);
    header.writeBigUInt64LE(unique, 8);
    writeSync(DEVICE, Buffer.concat([header, payload]));
  };
  switch (request.readUInt32LE(4)) {
    case Opcode.init:
      reply(initialised(request));
      break;
    case Opcode.lookup: {
      const name = request.toString('latin1', HEADER_IN, request.length - 1);
      if (name === 'snapshot') reply(entry());
      else reply(Buffer.alloc(0), ENOENT);
      break;
    }
    case Opcode.getattr:
      reply(Buffer.concat([words(VALID_SECONDS, 0n), attributes(node)]));
      break;
    case Opcode.open:
      reply(Buffer.alloc(16));
      break;
    case Opcode.read: {
      const offset = Number(request.readBigUInt64LE(HEADER_IN + 8));
      const size = Math.min(request.readUInt32LE(HEADER_IN + 16), Math.max(0, SLOW_FILE_BYTES - offset));
      setTimeout(reply, delayMs, Buffer.alloc(size, 1));
      break;
    }
    case Opcode.statfs:
      reply(Buffer.alloc(80));
      break;
    case Opcode.release:
    case Opcode.flush:
      reply(Buffer.alloc(0));
      break;
    case Opcode.forget:
    case Opcode.batchForget:
    case Opcode.interrupt:
      // Nobody waits for an answer.
      break;
    default:
      reply(Buffer.alloc(0), ENOSYS);
  }
}

function words(...values: bigint[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, i) => bytes.writeBigUInt64LE(value, i * 8));
  return bytes;
}

/** fuse_init_out. */
function initialised(request: Buffer): Buffer {
  const out = Buffer.alloc(64);
  out.writeUInt32LE(7, 0);
  out.writeUInt32LE(Math.min(31, request.readUInt32LE(HEADER_IN + 4)), 4);
  out.writeUInt32LE(4096, 8);
  out.writeUInt16LE(64, 16);
  out.writeUInt16LE(48, 18);
  out.writeUInt32LE(4096, 20);
  out.writeUInt32LE(1, 24);
  return out;
}

/** fuse_entry_out of the file. */
function entry(): Buffer {
  return Buffer.concat([words(FILE, 0n, VALID_SECONDS, VALID_SECONDS, 0n), attributes(FILE)]);
}

/** fuse_attr. */
function attributes(node: bigint): Buffer {
  const isRoot = node === ROOT;
  const out = Buffer.alloc(88);
  out.writeBigUInt64LE(node, 0);
  out.writeBigUInt64LE(isRoot ? 0n : BigInt(SLOW_FILE_BYTES), 8);
  out.writeBigUInt64LE(isRoot ? 0n : BigInt(SLOW_FILE_BYTES / 512), 16);
  out.writeUInt32LE(isRoot ? 0o40755 : 0o100444, 60);
  out.writeUInt32LE(1, 64);
  out.writeUInt32LE(4096, 80);
  return out;
}
