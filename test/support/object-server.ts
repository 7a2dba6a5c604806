// An HTTP server with one object, on this thread: ranges, a strong ETag, and what servers do when they are not well.
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export class ObjectServer implements AsyncDisposable {
  bytes: Buffer;
  etag: string | undefined = '"one"';
  /** Before each answer to a range that is longer than a byte, in milliseconds. */
  latencyMs = 0;
  /** Called with each such request; true when it has been answered. */
  behave: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** Ranges that were asked for, but for the first byte. */
  readonly asked: { start: number; length: number }[] = [];
  underWay = 0;
  mostUnderWay = 0;
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  private constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  static async start(bytes: Buffer): Promise<ObjectServer> {
    const server = new ObjectServer(bytes);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/snapshot?signature=secret`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const [start, end] = [Number(from), Number(to)];
    if (end > start) {
      this.asked.push({ start, length: end - start + 1 });
      this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
      response.on('close', () => this.underWay--);
      if (this.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, this.latencyMs));
      if (this.behave(request, response)) return;
    }
    const expected = request.headers['if-match'];
    if (expected !== undefined && expected !== this.etag) response.writeHead(412).end();
    else this.send(response, start, end);
  }

  send(response: ServerResponse, start: number, end: number): void {
    response.writeHead(206, {
      'content-range': `bytes ${start}-${end}/${this.bytes.length}`,
      'content-length': end - start + 1,
      ...(this.etag !== undefined && { etag: this.etag }),
    });
    response.end(this.bytes.subarray(start, end + 1));
  }
}
