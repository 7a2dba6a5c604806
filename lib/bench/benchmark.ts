// The whole run: every trial in its order, then the report.
import { BenchContext } from './bench-context.js';
import type { Measured } from './contestant.js';
import { limitTrials, runLimit } from './limits.js';
import { mainThread } from './main-thread.js';
import type { BenchReport, Extra, Limit } from './report.js';
import { runIdle, runResident } from './resident.js';
import { runRestore } from './restore.js';
import { serverMemory } from './server-memory.js';
import { comparison, machineFacts, noise } from './report-parts.js';
import { type Trial, trials } from './trials.js';

export interface BenchOptions {
  readonly quick: boolean;
  /** Measure only what has this in its name; the control is always measured. */
  readonly only?: RegExp;
  /** Pages per answer in the restore rows. Default: what the server does by itself. */
  readonly faultAround?: number;
  readonly signal: AbortSignal;
  /** Called before each trial. */
  readonly onProgress: (done: number, total: number, name: string) => void;
}

interface ExtraTrial {
  readonly name: string;
  readonly measure: (context: BenchContext) => Promise<Extra[]>;
}

const extraTrials: readonly ExtraTrial[] = [
  { name: 'main thread', measure: mainThread },
  { name: 'server memory', measure: serverMemory },
];

/** What `only` can match. */
export const rowNames: readonly string[] = [...trials, ...limitTrials, ...extraTrials].map(({ name }) => name);

export async function benchmark(options: BenchOptions): Promise<BenchReport> {
  const { quick, only, signal, onProgress } = options;
  const started = performance.now();
  using context = new BenchContext({ quick, signal, faultAround: options.faultAround });
  const machine = machineFacts(context.cpusUsed);
  const chosen = <T extends { name: string }>(all: readonly T[]) =>
    all.filter((trial) => isControl(trial) || only === undefined || only.test(trial.name));
  const [rows, bounds, others] = [chosen(trials), chosen(limitTrials), chosen(extraTrials)];
  let done = 0;
  const next = (name: string) => {
    signal.throwIfAborted();
    onProgress(done++, rows.length + bounds.length + others.length, name);
  };
  const measured: { trial: Trial; results: Measured[] }[] = [];
  for (const trial of rows) {
    next(trial.name);
    measured.push({ trial, results: await run(context, trial) });
  }
  const limits: Limit[] = [];
  for (const trial of bounds) {
    next(trial.name);
    limits.push(await runLimit(context, trial));
  }
  const extra: Extra[] = [];
  for (const trial of others) {
    next(trial.name);
    extra.push(...(await trial.measure(context)));
  }
  const resultsOf = (control: boolean) =>
    measured.filter(({ trial }) => isControl(trial) === control).flatMap(({ results }) => results);
  return {
    schema: 1,
    quick,
    seconds: (performance.now() - started) / 1000,
    comparisons: resultsOf(false).map(comparison),
    limits,
    extra,
    noise: noise(resultsOf(true)),
    machine,
  };
}

function isControl(trial: object): boolean {
  return 'control' in trial;
}

function run(context: BenchContext, trial: Trial): Promise<Measured[]> {
  switch (trial.runner) {
    case 'resident':
      return runResident(context, trial);
    case 'restore':
      return runRestore(context, trial);
    case 'idle':
      return runIdle(context, trial);
  }
}
