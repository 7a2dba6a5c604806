// The answering side of fetches: reads what a serving worker asks for into the arena, then rings it. In a fetch worker,
// or on the thread that made the server when the source is an object there.
import type { MessagePort } from 'node:worker_threads';
import { UffdError, messageOf } from '../errors.js';
import { native } from '../native/load.js';
import type { FetchArena, FetchReply, FetchRequest } from './messages.js';
import type { PageSource } from './page-source.js';

/** Serves one port until it closes. The first message names the arena. */
export function serveFetches(port: MessagePort, source: PageSource): void {
  let arena: FetchArena | undefined;
  port.on('message', (message: FetchArena | FetchRequest) => {
    if ('arena' in message) arena = message;
    else if (arena !== undefined) void answer(port, source, arena, message);
  });
}

async function answer(port: MessagePort, source: PageSource, arena: FetchArena, request: FetchRequest): Promise<void> {
  let reply: FetchReply = { id: request.id };
  try {
    if (source.read === undefined) throw new UffdError('ERR_SOURCE_INVALID', 'the source has no read()');
    await source.read(new Uint8Array(arena.arena), request.arenaOffset, request.length, request.offset);
  } catch (error) {
    const sourceChanged = error instanceof UffdError && error.code === 'ERR_SOURCE_CHANGED';
    reply = { id: request.id, error: messageOf(error), sourceChanged };
  }
  port.postMessage(reply);
  native().signalEvent(arena.wakeFd);
}
