// The first message of a client, collected: one JSON array, in however many pieces, and the descriptors with it.
import { UffdError } from '../errors.js';
import type { Connection } from './connection.js';

export const MAX_HANDSHAKE_BYTES = 256 * 1024;
export const MAX_DESCRIPTORS = 3;

const [SPACE, QUOTE, OPEN, CLOSE, BACKSLASH] = [0x20, 0x22, 0x5b, 0x5d, 0x5c];

export interface Handshake {
  readonly text: string;
  readonly descriptors: readonly number[];
}

/**
 * Collects a handshake. The array `descriptors` is filled as they come, so that the caller can close them whatever
 * happens.
 * @throws UffdError ERR_HANDOFF_REFUSED: too long, too many descriptors, not complete within `timeoutMs`
 */
export function receiveHandshake(connection: Connection, descriptors: number[], timeoutMs: number): Promise<Handshake> {
  return new Promise((resolve, reject) => {
    const pieces: Uint8Array[] = [];
    const arrayEnd = new ArrayEnd();
    let length = 0;
    const end = (error?: Error) => {
      clearTimeout(timer);
      connection.pause();
      if (error === undefined) resolve({ text: Buffer.concat(pieces).toString('utf8'), descriptors });
      else reject(error);
    };
    const refuse = (reason: string) => {
      end(new UffdError('ERR_HANDOFF_REFUSED', reason));
    };
    const timer = setTimeout(refuse, timeoutMs, `no complete handshake within ${timeoutMs} ms`);
    connection.onData((chunk) => {
      descriptors.push(...chunk.descriptors);
      pieces.push(chunk.bytes);
      length += chunk.bytes.length;
      if (chunk.controlTruncated || descriptors.length > MAX_DESCRIPTORS) refuse('too many descriptors');
      else if (length > MAX_HANDSHAKE_BYTES) refuse(`more than ${MAX_HANDSHAKE_BYTES} bytes of handshake`);
      else if (chunk.bytes.length === 0) refuse('the client closed the connection before its handshake was complete');
      else if (arrayEnd.seenIn(chunk.bytes)) end();
    }, end);
  });
}

/**
 * Sees where an array of arrays and objects ends, byte by byte, so that the text is parsed once however it is cut up.
 * Brackets inside strings are not brackets; the array of mappings has only keys for strings.
 */
class ArrayEnd {
  #depth = 0;
  #inString = false;
  #escaped = false;
  #begun = false;

  /** True once the array has ended, or when it cannot be one. */
  seenIn(bytes: Uint8Array): boolean {
    for (const byte of bytes) {
      if (this.#escaped) this.#escaped = false;
      else if (this.#inString) {
        if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
      } else if (byte === QUOTE) this.#inString = true;
      else if (byte === OPEN) this.#depth++;
      else if (byte === CLOSE) this.#depth--;
      if (byte > SPACE) {
        if (!this.#begun && byte !== OPEN) return true;
        this.#begun = true;
      }
      if (this.#begun && this.#depth <= 0) return true;
    }
    return false;
  }
}
