// What `uffd serve --status` is told: who is served, and how far each is.
import type { FaultServer } from '../server/fault-server.js';
import { sessionsWithoutAnswer } from '../server/stats-requests.js';

/** In one answer, which has to fit into the socket's buffer. */
const MAX_SESSIONS_TOLD = 256;

export interface StatusSubject {
  readonly server: FaultServer;
  readonly about: Readonly<Record<string, unknown>> | undefined;
  /** What is known of the client of a session. */
  readonly clientOf: (session: number) => Promise<object | undefined>;
}

export async function statusOf({ server, about, clientOf }: StatusSubject): Promise<object> {
  const summaries = await server.summaries();
  const sessions = [];
  for (const { waiting, waitingPages, ...rest } of summaries.slice(0, MAX_SESSIONS_TOLD)) {
    sessions.push({
      ...rest,
      waiting: waitingPages,
      ...(waiting[0] !== undefined && { reason: waiting[0].reason }),
      ...(await clientOf(rest.session)),
    });
  }
  const all = server.sessions;
  const silent = sessionsWithoutAnswer(all, summaries).slice(0, MAX_SESSIONS_TOLD);
  return { event: 'status', ...about, sessionCount: all.length, sessions, silent };
}
