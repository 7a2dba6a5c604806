// An HTTP server with one object that is far away: each answer comes after a while, all of them share one line.
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const CHUNK_BYTES = 32 * 1024;

export class DelayedObject implements AsyncDisposable {
  readonly #bytes: Buffer;
  readonly #latencyMs: number;
  readonly #msPerByte: number;
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  /** When the line has sent all it was given; performance.now(). */
  #busyUntil = 0;
  /** Bytes of the object in answers to ranges of more than a byte. */
  bytesSent = 0;

  private constructor(bytes: Buffer, latencyMs: number, bytesPerSecond: number) {
    this.#bytes = bytes;
    this.#latencyMs = latencyMs;
    this.#msPerByte = 1000 / bytesPerSecond;
  }

  static async start(bytes: Buffer, latencyMs: number, bytesPerSecond: number): Promise<DelayedObject> {
    const object = new DelayedObject(bytes, latencyMs, bytesPerSecond);
    object.#server.listen(0, '127.0.0.1');
    await once(object.#server, 'listening');
    return object;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/snapshot`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const [start, end] = [Number(from), Number(to) + 1];
    await sleep(this.#latencyMs);
    response.writeHead(206, {
      'content-range': `bytes ${start}-${end - 1}/${this.#bytes.length}`,
      'content-length': end - start,
      etag: '"one"',
    });
    if (end - start > 1) this.bytesSent += end - start;
    // Piece by piece, so that answers under way at the same time share the line.
    for (let at = start; at < end; at += CHUNK_BYTES) {
      const piece = this.#bytes.subarray(at, Math.min(end, at + CHUNK_BYTES));
      this.#busyUntil = Math.max(this.#busyUntil, performance.now()) + piece.length * this.#msPerByte;
      const wait = this.#busyUntil - performance.now();
      // A timer is up to a millisecond late: less than that is sent ahead, and made up for by the next piece.
      if (wait >= 1) await sleep(wait);
      response.write(piece);
    }
    response.end();
  }
}
