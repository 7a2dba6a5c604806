// What the main thread asks of a serving worker, in its order.
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { native } from '../native/load.js';
import type { ToServing } from './messages.js';

export class ControlPort {
  readonly #port: MessagePort;
  /** Received already, and to be taken before those that come. */
  #unread: ToServing[] = [];

  constructor(port: MessagePort) {
    this.#port = port;
  }

  /** Undefined when there is no more. */
  next(): ToServing | undefined {
    return this.#unread.shift() ?? this.#receive();
  }

  /** To be the next one again. */
  putBack(message: ToServing): void {
    this.#unread.unshift(message);
  }

  /**
   * The sessions that are kept by this worker, which was held by a client. What was asked of it before stays to be taken,
   * but for the sessions that were given away before it had come to them.
   */
  kept(): readonly number[] {
    for (;;) {
      const message = this.#receive();
      if (message === undefined) throw new Error('everything was taken away, and nobody has said what');
      if (message.type !== 'taken') {
        this.#unread.push(message);
        continue;
      }
      const { kept } = message;
      this.#unread = this.#unread.filter((one) => one.type !== 'attach' || kept.includes(one.session) || drop(one));
      return kept;
    }
  }

  #receive(): ToServing | undefined {
    return receiveMessageOnPort(this.#port)?.message as ToServing | undefined;
  }
}

function drop({ userfaultfd, memory, moved }: Extract<ToServing, { type: 'attach' }>): false {
  for (const fd of [userfaultfd, memory, moved?.states ?? -1]) if (fd >= 0) native().closeDetached(fd);
  return false;
}
