// The answering side of fetches: reads what a serving worker asks for into the arena, then rings it. In a fetch worker,
// or on the thread that made the server when the source is an object there.
import type { MessagePort } from 'node:worker_threads';
import { UffdError, messageOf } from '../errors.js';
import { Bell } from './bell.js';
import type { FetchArena, FetchCancel, FetchReply, FetchRequest } from './messages.js';
import type { PageSource } from './page-source.js';

/** Serves one port until it closes. The first message names the arena. */
export function serveFetches(port: MessagePort, source: PageSource): void {
  let endpoint: FetchEndpoint | undefined;
  port.on('message', (message: FetchArena | FetchRequest | FetchCancel) => {
    if ('arena' in message) endpoint = new FetchEndpoint(port, source, message);
    else if ('cancel' in message) endpoint?.cancel(message.cancel);
    else void endpoint?.answer(message);
  });
  port.on('close', () => endpoint?.close());
}

class FetchEndpoint {
  readonly #port: MessagePort;
  readonly #source: PageSource;
  readonly #bell: Bell;
  readonly #arena: Uint8Array;
  readonly #cancelled: Int32Array;
  readonly #underWay = new Map<number, AbortController>();

  constructor(port: MessagePort, source: PageSource, { arena, cancelled, bell }: FetchArena) {
    this.#port = port;
    this.#source = source;
    this.#bell = new Bell(bell);
    this.#arena = new Uint8Array(arena);
    this.#cancelled = new Int32Array(cancelled);
  }

  /** Nobody waits any more for what is being read still. */
  close(): void {
    this.#bell.close();
    for (const stop of this.#underWay.values()) stop.abort();
  }

  cancel(id: number): void {
    this.#underWay.get(id)?.abort();
  }

  async answer({ id, place, arenaOffset, length, offset }: FetchRequest): Promise<void> {
    const stop = new AbortController();
    this.#underWay.set(id, stop);
    let reply: FetchReply = { id };
    try {
      if (Atomics.load(this.#cancelled, place) === id + 1) throw new UffdError('ERR_CLOSED', 'the session is over');
      if (this.#source.read === undefined) throw new UffdError('ERR_SOURCE_INVALID', 'the source has no read()');
      await this.#source.read(this.#arena, arenaOffset, length, offset, stop.signal);
    } catch (error) {
      const sourceChanged = error instanceof UffdError && error.code === 'ERR_SOURCE_CHANGED';
      reply = { id, error: messageOf(error), sourceChanged };
    }
    this.#underWay.delete(id);
    this.#port.postMessage(reply);
    this.#bell.ring();
  }
}
