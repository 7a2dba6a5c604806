// The fetch workers of a server, or its source object on this thread: who reads what would block.
import { once } from 'node:events';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { UffdError, messageOf } from '../errors.js';
import { workerExecArgv } from './exec-argv.js';
import { serveFetches } from './fetch-endpoint.js';
import { type ModuleReference, type SourceSpec, portable } from './page-source.js';

const STOP_MS = 2000;

export class FetchPool {
  readonly #workers: Worker[] = [];
  readonly #ownPorts: MessagePort[] = [];
  readonly #opening: Promise<unknown>[] = [];
  #started = false;
  /** Int32Array: reads under way at each fetch worker, kept by the serving workers. */
  readonly asked: SharedArrayBuffer;
  /** For each serving worker its ends of the channels, one to every fetch worker. */
  readonly portsOfServing: MessagePort[][];

  /** @param failed a fetch worker ended with an error */
  constructor(source: SourceSpec, servingWorkers: number, failed: (error: Error) => void) {
    this.asked = new SharedArrayBuffer(4 * (source.fetchWorkers ?? 1));
    this.portsOfServing = Array.from({ length: servingWorkers }, () => []);
    if (source.object !== undefined) this.#serveHere(source.object);
    else if (source.module !== undefined && source.runsIn !== 'serving')
      this.#start(source, portable(source.module), failed);
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
        worker.postMessage('stop');
        // A read that hangs (a dead network file system) must not hang the server: it is left to the process's end.
        await exited.catch(() => {
          worker.unref();
        });
      }),
    );
  }

  #serveHere(source: NonNullable<SourceSpec['object']>): void {
    for (const ports of this.portsOfServing) {
      const { port1, port2 } = new MessageChannel();
      ports.push(port1);
      this.#ownPorts.push(port2);
      serveFetches(port2, source);
    }
  }

  #start(source: SourceSpec, module: ModuleReference, failed: (error: Error) => void): void {
    for (let i = 0; i < (source.fetchWorkers ?? 1); i++) {
      const ports: MessagePort[] = [];
      for (const servingPorts of this.portsOfServing) {
        const { port1, port2 } = new MessageChannel();
        servingPorts.push(port1);
        ports.push(port2);
      }
      const worker = new Worker(new URL('./fetch-worker.js', import.meta.url), {
        name: 'uffd-fetch',
        ...workerExecArgv(),

        workerData: { module, ports },
        transferList: ports,
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
