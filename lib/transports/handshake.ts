// The first message of a client, collected: one JSON array, in however many pieces, and the descriptors with it.
import { UffdError } from '../errors.js';
import { addAbortListener } from 'node:events';
import type { Chunk, Connection } from './connection.js';

export const MAX_HANDSHAKE_BYTES = 256 * 1024;
export const MAX_DESCRIPTORS = 3;

const [SPACE, QUOTE, OPEN, CLOSE, BACKSLASH] = [0x20, 0x22, 0x5b, 0x5d, 0x5c];

export interface Handshake {
  readonly text: string;
  readonly descriptors: readonly number[];
}

/** How often a first read of nothing is taken for a message that is still to come, and how long that is waited for. */
const EMPTY_READS = 5;
const EMPTY_READ_MS = 100;

/**
 * Collects a handshake. The array `descriptors` is filled as they come, so that the caller can close them whatever
 * happens.
 * @throws UffdError ERR_HANDOFF_REFUSED: too long, too many descriptors, not complete within `timeoutMs`
 */
export function receiveHandshake(
  connection: Connection,
  descriptors: number[],
  { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal },
): Promise<Handshake> {
  return new Promise((resolve, reject) => {
    const collector = new HandshakeCollector(descriptors);
    const end = (error?: Error) => {
      clearTimeout(timer);
      clearTimeout(again);
      aborted?.[Symbol.dispose]();
      connection.pause();
      if (error === undefined) resolve({ text: collector.text, descriptors });
      else reject(error);
    };
    const late = () => {
      end(refusal(`no complete handshake within ${timeoutMs} ms`));
    };
    const timer = setTimeout(late, timeoutMs);
    const aborted =
      signal &&
      addAbortListener(signal, () => {
        end(refusal('the server does not listen any more'));
      });
    let again: NodeJS.Timeout | undefined;
    const listen = () => {
      if (connection.closed) return;
      connection.onData((chunk) => {
        const next = collector.take(chunk);
        if (next === 'complete') end();
        else if (next === 'again') again = setTimeout(listen, EMPTY_READ_MS);
      }, end);
    };
    listen();
  });
}

function refusal(reason: string): UffdError {
  return new UffdError('ERR_HANDOFF_REFUSED', reason);
}

/** What has come of a handshake, whatever pieces it comes in. */
export class HandshakeCollector {
  readonly #descriptors: number[];
  readonly #pieces: Uint8Array[] = [];
  readonly #arrayEnd = new ArrayEnd();
  #length = 0;
  #emptyReads = 0;

  /** @param descriptors filled as they come */
  constructor(descriptors: number[]) {
    this.#descriptors = descriptors;
  }

  get text(): string {
    return Buffer.concat(this.#pieces).toString('utf8');
  }

  /**
   * `again`: nothing has come at all. Firecracker before 1.12 closes its end at once, and its message was seen to be
   * there only when looked for a second time.
   * @throws UffdError ERR_HANDOFF_REFUSED
   */
  take(chunk: Chunk): 'complete' | 'more' | 'again' {
    this.#descriptors.push(...chunk.descriptors);
    if (chunk.controlTruncated || this.#descriptors.length > MAX_DESCRIPTORS) throw refusal('too many descriptors');
    if (chunk.bytes.length === 0) {
      if (this.#length === 0 && this.#emptyReads++ < EMPTY_READS) return 'again';
      throw refusal('the client closed the connection before its handshake was complete');
    }
    this.#pieces.push(chunk.bytes);
    this.#length += chunk.bytes.length;
    if (this.#length > MAX_HANDSHAKE_BYTES) throw refusal(`more than ${MAX_HANDSHAKE_BYTES} bytes of handshake`);
    return this.#arrayEnd.seenIn(chunk.bytes) ? 'complete' : 'more';
  }
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
