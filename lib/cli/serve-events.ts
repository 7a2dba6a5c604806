// What happens at a server and its listeners, as the events that `uffd serve` tells.
import type { FaultServer } from '../server/fault-server.js';
import type { HandoffListener } from '../transports/handoff-listener.js';
import { ExitCode, endInTime } from './exit.js';
import type { ServeLog } from './serve-log.js';

/** Of the sessions there are: what happens to one is told with its process, which is what an operator can act on. */
export type Pids = Map<number, number>;

export function reportListener(listener: HandoffListener, log: ServeLog, pids: Pids): void {
  listener.on('session', (session, { pid, uid }, dialect, { kind, pageSize }) => {
    pids.set(session, pid);
    log.say({ event: 'session', session, pid, uid, dialect, kind, pageSize });
  });
  listener.on('refused', (reason, peer) => {
    log.say({ event: 'refused', reason, ...peer });
  });
}

export function reportServer(server: FaultServer, log: ServeLog, pids: Pids, stopListening: () => void): void {
  server.on('parked', (session, reason) => {
    log.say({ event: 'parked', session, pid: pids.get(session), reason });
  });
  server.on('held', (sessions, moved, reason) => {
    for (const session of sessions) log.say({ event: 'held', session, moved, ...(reason !== undefined && { reason }) });
  });
  server.on('unserved', (session, action, page, reason) => {
    log.say({ event: 'unserved', session, pid: pids.get(session), action, page, reason });
  });
  server.on('source-failed', (reason) => {
    log.say({ event: 'source-failed', reason });
  });
  server.on('detached', (session, why, stats) => {
    const { faults, filledPages } = stats;
    log.say({ event: 'detached', session, pid: pids.get(session), why, faults, filledPages, stats });
    pids.delete(session);
  });
  server.on('error', (error) => {
    log.say({ event: 'error', reason: error.message });
    // Its sessions have nobody who serves them: ending tells their clients, going on would not.
    stopListening();
    endInTime(ExitCode.failed);
    process.exit();
  });
}
