// The fetch workers of a server, or its source object on this thread: who reads what would block.
import { once } from 'node:events';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { UffdError, messageOf } from '../errors.js';
import { workerExecArgv } from './exec-argv.js';
import { serveFetches } from './fetch-endpoint.js';
import type { ToFetching } from './messages.js';
import { type ModuleReference, type PageSource, type SourceSpec, portable } from './page-source.js';

const STOP_MS = 2000;

export class FetchPool {
  readonly #workers: Worker[] = [];
  readonly #ownPorts: MessagePort[] = [];
  readonly #opening: Promise<unknown>[] = [];
  #started = false;
  readonly #object: PageSource | undefined;
  #ref = true;
  /** Int32Array: reads under way at each fetch worker, kept by the serving workers. */
  readonly asked: SharedArrayBuffer;

  /** @param failed a fetch worker ended with an error */
  constructor(source: SourceSpec, failed: (error: Error) => void) {
    this.asked = new SharedArrayBuffer(4 * (source.fetchWorkers ?? 1));
    this.#object = source.object;
    if (source.object === undefined && source.module !== undefined && source.runsIn !== 'serving')
      this.#start(source, portable(source.module), failed);
  }

  /** A serving worker's ends of new channels, one to every fetch worker. */
  portsOfServing(): MessagePort[] {
    if (this.#object !== undefined) {
      const { port1, port2 } = new MessageChannel();
      this.#ownPorts.push(port2);
      serveFetches(port2, this.#object);
      if (!this.#ref) port2.unref();
      return [port1];
    }
    return this.#workers.map((worker) => {
      const { port1, port2 } = new MessageChannel();
      worker.postMessage({ port: port2 } satisfies ToFetching, [port2]);
      return port1;
    });
  }

  /** Resolves when every fetch worker has opened the source. @throws UffdError ERR_WORKER_FAILED */
  async started(): Promise<void> {
    try {
      await Promise.all(this.#opening);
      this.#started = true;
    } catch (error) {
      throw new UffdError('ERR_WORKER_FAILED', `a fetch worker failed: ${messageOf(error)}`, { cause: error });
    }
  }

  setRef(ref: boolean): void {
    this.#ref = ref;
    for (const one of [...this.#workers, ...this.#ownPorts]) {
      if (ref) one.ref();
      else one.unref();
    }
  }

  async stop(): Promise<void> {
    for (const port of this.#ownPorts) port.close();
    await Promise.all(
      this.#workers.map(async (worker) => {
        if (worker.threadId < 0) return;
        const exited = once(worker, 'exit', { signal: AbortSignal.timeout(STOP_MS) });
        worker.postMessage('stop' satisfies ToFetching);
        // A read that hangs (a dead network file system) must not hang the server: it is left to the process's end.
        await exited.catch(() => {
          worker.unref();
        });
      }),
    );
  }

  #start(source: SourceSpec, module: ModuleReference, failed: (error: Error) => void): void {
    for (let i = 0; i < (source.fetchWorkers ?? 1); i++) {
      const worker = new Worker(new URL('./fetch-worker.js', import.meta.url), {
        name: 'uffd-fetch',
        ...workerExecArgv(),
        workerData: { module },
      });
      const ended = once(worker, 'exit').then(() => {
        throw new Error('its thread has ended');
      });
      this.#opening.push(Promise.race([once(worker, 'message'), ended]));
      worker.on('error', (error: Error) => {
        if (this.#started) failed(error);
      });
      this.#workers.push(worker);
    }
  }
}
