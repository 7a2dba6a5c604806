// What is counted of a fault server: totals that outlive its sessions, and their families for Prometheus.
import type { FaultServer } from '../server/fault-server.js';
import { type OutcomeName, boundsMs, outcomes } from '../server/measures.js';
import type { FailurePolicy, SessionSummary } from '../server/messages.js';
import { type SessionCounters, countersOf } from '../server/session-counters.js';
import type { HandoffListener } from '../transports/handoff-listener.js';
import { type Family, type Labels, type Sample, histogramSamples } from './exposition.js';

/** How long a worker may take to tell its numbers; they are from shared memory otherwise. */
const ANSWER_MS = 1000;

const counters = {
  faults: ['uffd_faults_total', 'Page-fault messages read.'],
  filledPages: ['uffd_pages_filled_total', 'Pages filled from the snapshot, asked for or not.'],
  zeroPages: ['uffd_pages_zeroed_total', 'Pages answered with zeroes.'],
  poisonedPages: ['uffd_pages_poisoned_total', 'Pages whose access fails from then on.'],
  fetches: ['uffd_fetches_total', 'Reads that had to wait for a fetch worker.'],
  failedReads: [
    'uffd_failed_reads_total',
    'Reads of a fetch worker that brought no bytes; tried again while somebody waits.',
  ],
} as const satisfies Record<keyof SessionCounters, readonly [string, string]>;

/** The numbers of one server and its listeners, kept from when it is made. */
export class ServerMetrics {
  readonly #server: FaultServer;
  readonly #labels: Labels;
  readonly #ended: SessionCounters = countersOf(new Float64Array());
  /** What each session was last heard to have: of one whose worker is held, or that moves, nothing is told meanwhile. */
  readonly #last = new Map<number, SessionSummary>();
  readonly #unserved: Record<FailurePolicy, number> = { poison: 0, kill: 0, stall: 0 };
  #attached = 0;
  #refused = 0;
  #parked = 0;
  #sourceFailed = 0;

  /** @param file names the server in the label `file` */
  constructor(server: FaultServer, file: string) {
    this.#server = server;
    this.#labels = { file };
    server.on('attached', () => this.#attached++);
    server.on('parked', () => this.#parked++);
    server.on('unserved', (_, action) => this.#unserved[action]++);
    server.on('source-failed', () => (this.#sourceFailed = 1));
    server.on('detached', (session, _, stats) => {
      const last = this.#last.get(session);
      this.#last.delete(session);
      // One that could not go on at another worker is told of without numbers.
      for (const key of keysOf(counters)) this.#ended[key] += Math.max(stats[key], last?.[key] ?? 0);
    });
  }

  watch(listener: HandoffListener): void {
    listener.on('refused', () => this.#refused++);
  }

  async families(): Promise<Family[]> {
    const summaries = await this.#summaries();
    const labels = this.#labels;
    const one = (value: number): Sample[] => [{ labels, value }];
    const total = (key: keyof SessionCounters) =>
      summaries.reduce((sum, summary) => sum + summary[key], this.#ended[key]);
    const waiting = summaries.reduce((sum, { waitingPages }) => sum + waitingPages, 0);
    const unserved = keysOf(this.#unserved).map((action) => ({
      labels: { ...labels, action },
      value: this.#unserved[action],
    }));
    return [
      gauge('uffd_sessions', 'Clients whose memory is served now.', one(this.#server.sessions.length)),
      counter('uffd_sessions_total', 'Clients whose memory was accepted.', one(this.#attached)),
      counter('uffd_refused_total', 'Clients that were turned away.', one(this.#refused)),
      counter('uffd_parked_total', 'Sessions of which nothing more was answered.', one(this.#parked)),
      gauge('uffd_faults_waiting', 'Faults that could not be answered yet.', one(waiting)),
      counter('uffd_unserved_total', 'Faults that were not answered in time, by what was done.', unserved),
      gauge('uffd_source_failed', 'Above 0 once the snapshot can no longer be trusted.', one(this.#sourceFailed)),
      ...keysOf(counters).map((key) => counter(counters[key][0], counters[key][1], one(total(key)))),
      this.#answerSeconds(),
    ];
  }

  #answerSeconds(): Family {
    const samples = outcomes.flatMap((outcome) => {
      const { counts, sumMs } = this.#histogram(outcome);
      const bounds = boundsMs.map((bound) => bound / 1000);
      return counts.length === 0 ? [] : histogramSamples({ ...this.#labels, outcome }, bounds, counts, sumMs / 1000);
    });
    const help = 'From reading the message of a fault to its answer, by what the answer was.';
    return { name: 'uffd_answer_seconds', type: 'histogram', help, samples };
  }

  /** Of all workers together. */
  #histogram(outcome: OutcomeName): { counts: number[]; sumMs: number } {
    const perWorker = this.#server.histograms().filter((one) => one.outcome === outcome);
    const [first, ...more] = perWorker.map(({ histogram }) => histogram);
    const counts = (first?.counts ?? []).map((count, i) => more.reduce((sum, one) => sum + one.counts[i]!, count));
    return { counts, sumMs: perWorker.reduce((sum, { histogram }) => sum + histogram.sumMs, 0) };
  }

  /** Of every session there is. Of a worker that does not answer, and is not held, nothing is known: an error. */
  async #summaries(): Promise<SessionSummary[]> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(reject, ANSWER_MS, new Error('a serving worker does not answer'));
    });
    try {
      for (const summary of await Promise.race([this.#server.summaries(), late]))
        this.#last.set(summary.session, summary);
      // One that ended meanwhile is among the ended already.
      const there = new Set(this.#server.sessions);
      for (const session of this.#last.keys()) if (!there.has(session)) this.#last.delete(session);
      return [...this.#last.values()];
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Of the process. */
export function processFamilies(): Family[] {
  const { rss } = process.memoryUsage();
  const started = Math.round(performance.timeOrigin) / 1000;
  return [
    gauge('process_resident_memory_bytes', 'Resident memory of the server.', [{ labels: {}, value: rss }]),
    gauge('process_start_time_seconds', 'When the server was started.', [{ labels: {}, value: started }]),
  ];
}

/** The same family of several servers is one family; of one file (its clones have a server of their own), the sum. */
export function merged(families: readonly Family[]): Family[] {
  const byName = new Map<string, { family: Family; samples: Map<string, Sample> }>();
  for (const family of families) {
    const of = byName.get(family.name) ?? { family, samples: new Map<string, Sample>() };
    byName.set(family.name, of);
    for (const sample of family.samples) {
      const key = JSON.stringify([sample.suffix, sample.labels]);
      const before = of.samples.get(key)?.value ?? 0;
      of.samples.set(key, { ...sample, value: sample.value + before });
    }
  }
  return Array.from(byName.values(), ({ family, samples }) => ({ ...family, samples: [...samples.values()] }));
}

function gauge(name: string, help: string, samples: Sample[]): Family {
  return { name, type: 'gauge', help, samples };
}

function counter(name: string, help: string, samples: Sample[]): Family {
  return { name, type: 'counter', help, samples };
}

function keysOf<Key extends string>(record: Readonly<Record<Key, unknown>>): Key[] {
  return Object.keys(record) as Key[];
}
