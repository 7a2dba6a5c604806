// For the error of a drain that was not over in time: the sessions there are still, and what each waits for.
import { messageOf } from '../errors.js';
import type { SessionStats } from './messages.js';
import { sessionsWithoutAnswer } from './stats-requests.js';

/** How long the workers may take to tell. */
const ANSWER_MS = 1000;

export async function whoIsLeft(server: {
  readonly sessions: readonly number[];
  stats(): Promise<readonly SessionStats[]>;
}): Promise<string> {
  const late = new Promise<never>((_, reject) => setTimeout(reject, ANSWER_MS, new Error('no answer')).unref());
  let stats;
  try {
    stats = await Promise.race([server.stats(), late]);
  } catch (error) {
    return `sessions ${server.sessions.join(', ')} (${messageOf(error)})`;
  }
  const lines = stats.map(({ session, states, waitingPages, waiting }) => {
    const reason = waiting[0] === undefined ? '' : `, page ${waiting[0].page}: ${waiting[0].reason}`;
    return `session ${session} (${states.absent + states.fetching} pages absent, ${waitingPages} waiting${reason})`;
  });
  const silent = sessionsWithoutAnswer(server.sessions, stats);
  lines.push(...silent.map((session) => `session ${session} (its client holds the lock of its address space)`));
  return lines.join('; ');
}
