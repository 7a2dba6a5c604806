// The HTTP endpoint that Prometheus asks: GET /metrics, and nothing else.
import { once } from 'node:events';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { messageOf } from '../errors.js';

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const REQUEST_MS = 10_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

export class MetricsEndpoint implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Listens from here on. @throws the errors of listen(2) */
  static async start({ host, port }: Address, text: () => Promise<string>): Promise<MetricsEndpoint> {
    const server = createServer({ requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS }, (request, response) => {
      void respond(request, response, text);
    });
    server.maxConnections = 64;
    server.listen(port, host);
    await once(server, 'listening');
    return new MetricsEndpoint(server);
  }

  /** `http://host:port/metrics`. */
  get url(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/metrics`;
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function respond(request: IncomingMessage, response: ServerResponse, text: () => Promise<string>): Promise<void> {
  const end = (status: number, body: string, type = 'text/plain; charset=utf-8') => {
    response.writeHead(status, { 'content-type': type, ...(status === 405 && { allow: 'GET, HEAD' }) });
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  const path = request.url?.split('?')[0];
  if (path !== '/metrics') end(404, 'there is only /metrics\n');
  else if (request.method !== 'GET' && request.method !== 'HEAD') end(405, 'GET only\n');
  else {
    try {
      end(200, await text(), CONTENT_TYPE);
    } catch (error) {
      end(503, `${messageOf(error)}\n`);
    }
  }
}
