// The handler threads of a stress run, as the main thread sees them.
import { once, setMaxListeners } from 'node:events';
import { Worker } from 'node:worker_threads';
import { UffdError, messageOf } from '../errors.js';
import { Bell } from '../server/bell.js';
import { workerExecArgv } from '../server/exec-argv.js';
import type { BounceOrders, FromHandler, HandlerCounts, HandlerData } from './messages.js';

interface Handler {
  readonly worker: Worker;
  bell: Bell;
}

export class Handlers implements AsyncDisposable {
  readonly #handlers: Handler[] = [];
  readonly #over = new Int32Array(new SharedArrayBuffer(4));
  readonly #failure = new AbortController();
  #counts: Promise<HandlerCounts>[] = [];

  private constructor() {
    Atomics.store(this.#over, 0, 1);
    // One for each handler is no leak.
    setMaxListeners(0, this.failed);
  }

  static async start(count: number, userfaultfd: number): Promise<Handlers> {
    const all = new Handlers();
    for (let i = 0; i < count; i++) all.#start({ userfaultfd, over: all.#over });
    try {
      await Promise.all(all.#handlers.map((handler) => all.#ready(handler)));
      return all;
    } catch (error) {
      await all[Symbol.asyncDispose]();
      throw error;
    }
  }

  get count(): number {
    return this.#handlers.length;
  }

  /** Aborted when a handler has failed: nobody answers then. */
  get failed(): AbortSignal {
    return this.#failure.signal;
  }

  begin(orders: Omit<BounceOrders, 'firstAhead'>): void {
    Atomics.store(this.#over, 0, 0);
    this.#counts = this.#handlers.map((handler, i) => {
      const firstAhead = Math.floor((i * orders.pages) / this.count);
      const counts = this.#message(handler, 'over').then((message) => message.counts);
      // Whoever ends the bounce hears of it; until then it is nobody's.
      counts.catch(() => undefined);
      handler.worker.postMessage({ ...orders, firstAhead } satisfies BounceOrders);
      return counts;
    });
  }

  /** @throws UffdError ERR_WORKER_FAILED */
  async end(): Promise<HandlerCounts[]> {
    this.#ring();
    return Promise.all(this.#counts);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ring();
    await Promise.all(this.#handlers.map(({ worker }) => worker.terminate()));
    for (const { bell } of this.#handlers) bell.close();
  }

  #start(data: HandlerData): void {
    const worker = new Worker(new URL('./handler-worker.js', import.meta.url), {
      name: 'uffd-stress',
      ...workerExecArgv(),
      workerData: data,
    });
    worker.on('error', (error) => {
      this.#fail(messageOf(error));
    });
    worker.on('message', (message: FromHandler) => {
      if (message.type === 'failed') this.#fail(message.error);
    });
    this.#handlers.push({ worker, bell: new Bell(-1) });
  }

  #ring(): void {
    Atomics.store(this.#over, 0, 1);
    for (const { bell } of this.#handlers) bell.ring();
  }

  async #ready(handler: Handler): Promise<void> {
    handler.bell = new Bell((await this.#message(handler, 'ready')).bell);
  }

  async #message<T extends FromHandler['type']>(
    { worker }: Handler,
    type: T,
  ): Promise<Extract<FromHandler, { type: T }>> {
    for (;;) {
      const [message] = (await once(worker, 'message', { signal: this.failed }).catch(() => {
        throw this.failed.reason as Error;
      })) as [FromHandler];
      if (message.type === type) return message as Extract<FromHandler, { type: T }>;
    }
  }

  #fail(message: string): void {
    this.#failure.abort(new UffdError('ERR_WORKER_FAILED', `a handler of the stress test failed: ${message}`));
  }
}
