// The events of one userfaultfd on the event loop: uv_poll says when, one read(2) takes the whole batch.
import { addAbortListener } from 'node:events';
import { KernelError, UffdError } from '../errors.js';
import type { NativeFdWatcher, NativeUserfaultfd } from '../native/contract.js';
import { native } from '../native/load.js';
import { type Decoding, type FaultEvent, MESSAGE_BYTES, decodeMessage } from './events.js';

const MESSAGES_PER_READ = 64;

export class FaultReader {
  readonly #native: NativeUserfaultfd;
  readonly #decoding: Decoding & { seen(event: FaultEvent): void };
  readonly #buffer = new Uint8Array(MESSAGES_PER_READ * MESSAGE_BYTES);
  readonly #view = new DataView(this.#buffer.buffer);
  #watcher: NativeFdWatcher | undefined;
  #wakeUp: ((error?: Error) => void) | undefined;
  #leftOver: FaultEvent[] = [];
  #active = false;
  #closed = false;

  /** @param decoding.seen is told of every event in the order of the kernel, before its consumer is */
  constructor(descriptor: NativeUserfaultfd, decoding: Decoding & { seen(event: FaultEvent): void }) {
    this.#native = descriptor;
    this.#decoding = decoding;
  }

  /** Somebody iterates. */
  get active(): boolean {
    return this.#active;
  }

  async *batches(signal?: AbortSignal): AsyncGenerator<FaultEvent[], void, undefined> {
    if (this.#active) throw new UffdError('ERR_ALREADY_ITERATED', 'another consumer reads this userfaultfd');
    this.#active = true;
    const listener = signal && addAbortListener(signal, () => this.#wakeUp?.());
    try {
      while (!this.#closed && signal?.aborted !== true) {
        const batch = this.#leftOver.length > 0 ? this.#leftOver.splice(0) : this.#read();
        if (batch.length > 0) yield batch;
        else await this.#readable();
      }
      if (!this.#closed) signal?.throwIfAborted();
    } finally {
      listener?.[Symbol.dispose]();
      this.#stopWatching();
      this.#active = false;
    }
  }

  /** Events of a batch that its consumer did not get to: the next iteration begins with them. */
  putBack(events: FaultEvent[]): void {
    if (this.#closed) for (const event of events.splice(0)) if (event.type === 'fork') event.userfaultfd.close();
    this.#leftOver = [...events, ...this.#leftOver];
  }

  /** Ends the iteration; before the descriptor is closed, because a watcher must never outlive its descriptor. */
  close(): void {
    this.#closed = true;
    this.#stopWatching();
    // Nobody will receive them any more, and with them the descriptors of children.
    for (const event of this.#leftOver.splice(0)) if (event.type === 'fork') event.userfaultfd.close();
    this.#wakeUp?.();
  }

  #read(): FaultEvent[] {
    const count = this.#native.read(this.#buffer);
    if (count < 0) throw new KernelError(count, 'read', 'userfaultfd');
    const batch: FaultEvent[] = [];
    for (let i = 0; i < count; i++) {
      const event = decodeMessage(this.#view, i * MESSAGE_BYTES, this.#decoding);
      this.#decoding.seen(event);
      batch.push(event);
    }
    return batch;
  }

  async #readable(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#wakeUp = (error) => {
        this.#wakeUp = undefined;
        this.#stopWatching();
        if (error === undefined) resolve();
        else reject(error);
      };
      this.#watcher = new (native().FdWatcher)(this.#native.fd(), (status) => {
        this.#wakeUp?.(status < 0 ? new KernelError(status, 'poll', 'userfaultfd') : undefined);
      });
    });
  }

  // Stopped after every wait: level-triggered, it would otherwise fire for as long as the consumer takes its time.
  #stopWatching(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }
}
