// The first message of a client, collected: one JSON array, in however many pieces, and the descriptors with it.
import { UffdError } from '../errors.js';
import type { Connection } from './connection.js';

export const MAX_HANDSHAKE_BYTES = 256 * 1024;
/** userfaultfd and memory, and one more before it is too many. */
export const MAX_DESCRIPTORS = 3;

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
      else if (looksComplete(chunk.bytes, pieces)) end();
    }, end);
  });
}

/** Only what ends like an array is worth a parse; what does not begin like one never will be. */
function looksComplete(last: Uint8Array, pieces: Uint8Array[]): boolean {
  const text = Buffer.from(last).toString('latin1').trimEnd();
  if (text.endsWith(']')) {
    try {
      JSON.parse(Buffer.concat(pieces).toString('utf8'));
      return true;
    } catch {
      return false;
    }
  }
  const first = Buffer.from(pieces[0]!).toString('latin1').trimStart();
  return first.length > 0 && !first.startsWith('[');
}
