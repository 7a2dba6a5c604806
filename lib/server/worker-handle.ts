// One serving worker as the main thread sees it: its thread, its port, and the eventfd that wakes it.
import { EventEmitter, once } from 'node:events';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { UffdError, messageOf } from '../errors.js';
import { native } from '../native/load.js';
import { workerExecArgv } from './exec-argv.js';
import type { FromServing, ServingOptions, ToServing } from './messages.js';

/** How long a worker may take to stop: it never waits longer than its idle time. */
const STOP_MS = 5000;

export class WorkerHandle extends EventEmitter<{ message: [FromServing]; failed: [Error] }> {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  #wakeFd = -1;
  #ended = false;
  #stopping = false;
  #failed = false;
  /** Sessions it has: new ones go to the worker with the fewest. */
  sessions = 0;

  private constructor(worker: Worker, port: MessagePort) {
    super();
    this.#worker = worker;
    this.#port = port;
    port.on('message', (message: FromServing) => {
      if (message.type === 'failed') this.#fail(message.error);
      else this.emit('message', message);
    });
    worker.on('error', (error) => {
      this.#fail(messageOf(error));
    });
    worker.on('exit', () => {
      this.#ended = true;
      port.close();
      if (!this.#stopping) this.#fail('its thread has ended');
    });
  }

  /** Starts the thread and waits until it serves. @throws UffdError ERR_WORKER_FAILED */
  static async start(options: ServingOptions, fetchPorts: MessagePort[]): Promise<WorkerHandle> {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(new URL('./serving-worker.js', import.meta.url), {
      name: 'uffd-serving',
      ...workerExecArgv(),

      workerData: { options, port: port2, fetchPorts },
      transferList: [port2, ...fetchPorts],
    });
    const handle = new WorkerHandle(worker, port1);
    await new Promise<void>((resolve, reject) => {
      handle.once('failed', reject);
      handle.once('message', (message) => {
        handle.off('failed', reject);
        if (message.type === 'ready') handle.#wakeFd = message.wakeFd;
        resolve();
      });
    });
    return handle;
  }

  /** Posts a message and wakes the worker, which looks at its port only then. False once it has ended. */
  send(message: ToServing): boolean {
    if (this.#ended) return false;
    this.#port.postMessage(message);
    native().signalEvent(this.#wakeFd);
    return true;
  }

  /** Whether it keeps the process alive. */
  setRef(ref: boolean): void {
    if (ref) {
      this.#worker.ref();
      this.#port.ref();
    } else {
      this.#worker.unref();
      this.#port.unref();
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#ended) return;
    const exited = once(this.#worker, 'exit', { signal: AbortSignal.timeout(STOP_MS) });
    this.send({ type: 'stop' });
    try {
      await exited;
    } catch {
      // Every wait of the worker is bounded, so terminate() gets through.
      await this.#worker.terminate();
    }
  }

  #fail(message: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.emit('failed', new UffdError('ERR_WORKER_FAILED', `a serving worker failed: ${message}`));
  }
}
