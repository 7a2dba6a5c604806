// `--metrics ADDR` and `--trace FILE`: what can be seen of a server while it serves.
import { type WriteStream, createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { type Address, MetricsEndpoint } from '../observe/endpoint.js';
import { exposition } from '../observe/exposition.js';
import { ServerMetrics, merged, processFamilies } from '../observe/metrics.js';
import type { FaultServer } from '../server/fault-server.js';
import type { HandoffListener } from '../transports/handoff-listener.js';
import { named } from './option-error.js';
import type { ServeLog } from './serve-log.js';
import type { Served } from './serving.js';

const TRACE_EVERY_MS = 100;

export interface WatchingOptions {
  readonly metrics?: Address;
  readonly trace?: string;
}

/** The metrics of all that is served, at one address. */
export class Metrics {
  readonly #endpoint: MetricsEndpoint;
  readonly #byServer: ReadonlyMap<FaultServer, ServerMetrics>;

  private constructor(endpoint: MetricsEndpoint, byServer: ReadonlyMap<FaultServer, ServerMetrics>) {
    this.#endpoint = endpoint;
    this.#byServer = byServer;
  }

  /** @throws UffdError ERR_INVALID_ARGUMENT when the address cannot be had */
  static async start(served: readonly Served[], address: Address): Promise<Metrics> {
    const byServer = new Map(served.map(({ server, file }) => [server, new ServerMetrics(server, file)]));
    try {
      const endpoint = await MetricsEndpoint.start(address, async () => {
        const families = await Promise.all(Array.from(byServer.values(), (metrics) => metrics.families()));
        return exposition([...merged(families.flat()), ...processFamilies()]);
      });
      return new Metrics(endpoint, byServer);
    } catch (error) {
      throw named('--metrics', error);
    }
  }

  get url(): string {
    return this.#endpoint.url;
  }

  /** Counts the clients that are turned away there. */
  watch(server: FaultServer, listener: HandoffListener): void {
    this.#byServer.get(server)?.watch(listener);
  }

  close(): Promise<void> {
    return this.#endpoint.close();
  }
}

/** Writes the faults of all servers to a file, a JSON object a line; what is in it before is gone. */
export class TraceWriter {
  readonly #servers: readonly FaultServer[];
  readonly #stream: WriteStream;
  readonly #timer: NodeJS.Timeout;

  private constructor(servers: readonly FaultServer[], stream: WriteStream, log: ServeLog) {
    this.#servers = servers;
    this.#stream = stream;
    this.#timer = setInterval(() => {
      this.#write();
    }, TRACE_EVERY_MS).unref();
    stream.once('error', (error) => {
      clearInterval(this.#timer);
      log.say({ event: 'warning', reason: `the trace ends here: ${error.message}` });
    });
  }

  /** @throws UffdError ERR_INVALID_ARGUMENT when the file cannot be opened */
  static async start(servers: readonly FaultServer[], path: string, log: ServeLog): Promise<TraceWriter> {
    const stream = createWriteStream(path);
    await once(stream, 'open').catch((error: unknown) => {
      throw named('--trace', error);
    });
    return new TraceWriter(servers, stream, log);
  }

  /** Resolves when everything is in the file. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#write();
    if (this.#stream.errored !== null) return;
    this.#stream.end();
    // An error has been told of.
    await once(this.#stream, 'close').catch(() => undefined);
  }

  #write(): void {
    for (const server of this.#servers) {
      const { faults, lost } = server.takeTrace();
      const lines = faults.map((fault) => `${JSON.stringify(fault)}\n`);
      if (lost > 0) lines.unshift(`${JSON.stringify({ lost })}\n`);
      if (lines.length > 0) this.#stream.write(lines.join(''));
    }
  }
}
