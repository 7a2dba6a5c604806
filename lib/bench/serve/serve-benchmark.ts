// The whole run of `uffd bench serve`: every row in its order, then the report.
import type { Measured } from '../contestant.js';
import type { BenchReport, Extra } from '../report.js';
import { comparison, machineFacts, noise } from '../report-parts.js';
import { runCompared } from './compared.js';
import { manySessions, overHttp, processFigures } from './figures.js';
import { ServeContext } from './serve-context.js';
import { slowFileBlocker } from './slow-file.js';
import { BESIDE_SLOW, besideSlow } from './slow.js';
import type { StartServe } from './tested-process.js';
import { type ServeTrial, trials } from './trials.js';

export interface ServeBenchOptions {
  readonly quick: boolean;
  /** Measure only what has this in its name; the control is always measured. */
  readonly only?: RegExp;
  readonly startServe: StartServe;
  readonly signal: AbortSignal;
  /** Called before each row. */
  readonly onProgress: (done: number, total: number, name: string) => void;
}

interface Other {
  readonly name: string;
  readonly measure: (context: ServeContext) => Promise<{ measured?: Measured[]; extra?: Extra[] }>;
  /** Why it cannot be measured here. */
  readonly blocker?: () => string | undefined;
}

const others: readonly Other[] = [
  {
    name: BESIDE_SLOW,
    measure: async (c) => ({ measured: await besideSlow(c) }),
    blocker: slowFileBlocker,
  },
  { name: '64 sessions', measure: async (c) => ({ extra: await manySessions(c) }) },
  { name: 'HTTP', measure: async (c) => ({ extra: await overHttp(c) }) },
  { name: 'server memory, process start', measure: async (c) => ({ extra: await processFigures(c) }) },
];

/** What `only` can match. */
export const serveRowNames: readonly string[] = [...trials, ...others].map(({ name }) => name);

export async function serveBenchmark(options: ServeBenchOptions): Promise<BenchReport> {
  const { quick, only, signal, startServe, onProgress } = options;
  const started = performance.now();
  using context = new ServeContext({ quick, signal, startServe });
  const machine = machineFacts(context.cpusUsed);
  const matches = ({ name }: { name: string }) => only === undefined || only.test(name);
  const rows = trials.filter((trial) => isControl(trial) || matches(trial));
  const figures = others.filter(matches);
  let done = 0;
  const next = (name: string) => {
    signal.throwIfAborted();
    onProgress(done++, rows.length + figures.length, name);
  };
  const measured: Measured[] = [];
  const controls: Measured[] = [];
  for (const trial of rows) {
    next(trial.name);
    (isControl(trial) ? controls : measured).push(...(await runCompared(context, trial)));
  }
  const extra: Extra[] = [];
  const skipped: { name: string; reason: string }[] = [];
  for (const { name, measure, blocker } of figures) {
    next(name);
    const reason = blocker?.();
    if (reason !== undefined) {
      skipped.push({ name, reason });
      continue;
    }
    const results = await measure(context);
    measured.push(...(results.measured ?? []));
    extra.push(...(results.extra ?? []));
  }
  return {
    schema: 1,
    quick,
    seconds: (performance.now() - started) / 1000,
    comparisons: measured.map(comparison),
    limits: [],
    extra,
    skipped,
    noise: noise(controls),
    machine,
  };
}

function isControl(trial: ServeTrial): boolean {
  return trial.control === true;
}
