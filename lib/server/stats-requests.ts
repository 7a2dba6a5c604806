// Asks all serving workers how their sessions are; one that a client holds answers when it is let go, so nobody waits for it.
import type { SessionStats, SessionSummary } from './messages.js';
import type { WorkerHandle } from './worker-handle.js';

type Told = readonly (SessionSummary | SessionStats)[];

export class StatsRequests {
  readonly #open = new Map<number, { readonly worker: WorkerHandle; readonly resolve: (told: Told) => void }>();
  #next = 1;

  async ask(workers: readonly WorkerHandle[], states: boolean): Promise<(SessionSummary | SessionStats)[]> {
    const told = workers.map(
      (worker) =>
        new Promise<Told>((resolve) => {
          const request = this.#next++;
          this.#open.set(request, { worker, resolve });
          if (!worker.send({ type: 'stats', request, states })) this.answered(request, []);
        }),
    );
    return (await Promise.all(told)).flat();
  }

  answered(request: number, told: Told): void {
    this.#open.get(request)?.resolve(told);
    this.#open.delete(request);
  }

  /** The worker is held, or has ended: who asked is told of all the others. */
  giveUp(of: WorkerHandle): void {
    for (const [request, { worker }] of this.#open) if (worker === of) this.answered(request, []);
  }
}

/** Those whose worker did not answer: a client holds it, so that they are told of by number alone. */
export function sessionsWithoutAnswer(all: readonly number[], told: Told): number[] {
  const heard = new Set(told.map(({ session }) => session));
  return all.filter((session) => !heard.has(session));
}
