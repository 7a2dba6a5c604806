// What the two sides of a migration say: frames of 16 bytes (kind, length, offset; little-endian), some with bytes after.
import type { Socket } from 'node:net';
import { UffdError } from '../errors.js';

/**
 * - `state`, from the source, first: the manifest of the guest, as text.
 * - `read`, from the destination: `length` bytes of memory at `offset` are wanted.
 * - `bytes`, from the source: they are these.
 * - `done`, from the destination: it has everything; the source may go.
 */
export const FrameKind = { state: 1, read: 2, bytes: 3, done: 4 } as const;

export interface Frame {
  readonly kind: number;
  readonly length: number;
  readonly offset: number;
  /** Of `state` and `bytes`. */
  readonly payload: Buffer;
}

const HEADER = 16;
/** Of a payload, and of what a `read` may ask for. */
export const MOST_PAYLOAD = 4 * 2 ** 20;

export function sendFrame(socket: Socket, kind: number, offset = 0, length = 0, payload?: Uint8Array): void {
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(kind, 0);
  header.writeUInt32LE(payload?.length ?? length, 4);
  header.writeBigUInt64LE(BigInt(offset), 8);
  socket.write(header);
  if (payload !== undefined) socket.write(payload);
}

/** Calls back with each frame of a socket. Throws out of the callback, and what is no frame, destroy the socket. */
export function onFrames(socket: Socket, use: (frame: Frame) => void): void {
  let chunks: Buffer[] = [];
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.length;
    try {
      for (;;) {
        const wanted = neededBytes(chunks, bytes);
        if (bytes < wanted) return;
        const whole = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, bytes);
        chunks = [whole.subarray(wanted)];
        bytes -= wanted;
        use(frameOf(whole.subarray(0, wanted)));
      }
    } catch (error) {
      socket.destroy(error as Error);
    }
  });
  socket.resume();
}

/** Of the first frame: its header, while that is not complete. */
function neededBytes(chunks: Buffer[], bytes: number): number {
  if (bytes < HEADER) return HEADER;
  if (chunks[0]!.length < HEADER) chunks.splice(0, chunks.length, Buffer.concat(chunks, bytes));
  const [kind, length] = [chunks[0]!.readUInt32LE(0), chunks[0]!.readUInt32LE(4)];
  if (kind < FrameKind.state || kind > FrameKind.done || length > MOST_PAYLOAD) {
    throw new UffdError('ERR_HANDOFF_REFUSED', 'the other side does not speak the protocol of uffd vmm migrate');
  }
  return kind === FrameKind.state || kind === FrameKind.bytes ? HEADER + length : HEADER;
}

function frameOf(bytes: Buffer): Frame {
  const [kind, length] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
  return { kind, length, offset: Number(bytes.readBigUInt64LE(8)), payload: bytes.subarray(HEADER) };
}
