// System calls on a second thread of the probing process, for those that sleep until the first one has read a message.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

export type ThreadCall = { readonly name: string; readonly args: readonly number[] } | { readonly fork: number };

let shared: OtherThread | undefined;

export class OtherThread {
  readonly #worker = new Worker(new URL('./calling-worker.js', import.meta.url), { execArgv: [] });
  readonly #online: Promise<unknown>;
  readonly #waiting: ((returned: number) => void)[] = [];

  /** One for the process: it ends with it, and forked children are killed when it does. */
  static shared(): OtherThread {
    return (shared ??= new OtherThread());
  }

  /** Starting a thread takes longer than anything a probe waits for. */
  static started(): Promise<unknown> {
    return OtherThread.shared().#online;
  }

  private constructor() {
    this.#online = once(this.#worker, 'online');
    this.#worker.on('message', (returned: number) => this.#waiting.shift()?.(returned));
    this.#worker.unref();
  }

  /** In the order they are asked; what the call returned. */
  call(call: ThreadCall): Promise<number> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#worker.postMessage(call);
    });
  }
}
