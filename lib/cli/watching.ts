// `--metrics ADDR` and `--trace FILE`: what can be seen of a server while it serves.
import { type WriteStream, createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { type Address, MetricsEndpoint } from '../observe/endpoint.js';
import { exposition } from '../observe/exposition.js';
import { ServerMetrics, merged, processFamilies } from '../observe/metrics.js';
import type { FaultServer } from '../server/fault-server.js';
import type { ServeLog } from './serve-log.js';
import type { Served } from './serving.js';

const TRACE_EVERY_MS = 100;

export interface WatchingOptions {
  readonly metrics?: Address;
  readonly trace?: string;
}

export async function startMetrics(served: readonly Served[], address: Address): Promise<MetricsEndpoint> {
  const all = served.map(({ server, file, listeners }) => {
    const metrics = new ServerMetrics(server, file);
    for (const listener of listeners) metrics.watch(listener);
    return metrics;
  });
  return MetricsEndpoint.start(address, async () => {
    const families = await Promise.all(all.map((metrics) => metrics.families()));
    return exposition([...merged(families.flat()), ...processFamilies()]);
  });
}

/** Appends the faults of all servers to a file, a JSON object a line. */
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

  /** @throws the errors of open(2) */
  static async start(servers: readonly FaultServer[], path: string, log: ServeLog): Promise<TraceWriter> {
    const stream = createWriteStream(path);
    await once(stream, 'open');
    return new TraceWriter(servers, stream, log);
  }

  /** Resolves when everything is in the file. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#write();
    if (this.#stream.errored !== null) return;
    this.#stream.end();
    await Promise.race([once(this.#stream, 'close'), once(this.#stream, 'error')]);
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
