// `probe()`: every question in a process of its own kind, each with a deadline, and what the answers add up to.
import { machine, release } from 'node:os';
import { areas } from './areas/areas.js';
import { runningKernel } from './kernel.js';
import { inInitialUserNamespace } from './openings.js';
import type { Finding, Probe } from './probe.js';
import { type Lost, Prober } from './prober.js';
import { type ProbeReport, type ProbeReportEntry, REPORT_SCHEMA } from './report.js';
import { selectIds } from './select.js';
import { verdictsOf } from './verdicts.js';

/** What is asked of the kernel, and how long at most. */
export interface ProbeOptions {
  /** Ids or globs such as `reg.*`, separated by commas. Default: all. */
  readonly only?: string;
  /** Ends it early: the promise rejects with the reason. */
  readonly signal?: AbortSignal;
}

/** A probe that takes longer has hung: the slowest takes a tenth of it. */
const PROBE_MS = 3000;

/**
 * Asks the running kernel what it does, by doing it: in a child process, changing nothing on the host.
 * @throws UffdError ERR_INVALID_ARGUMENT (`only` names no probe)
 */
export async function probe(options: ProbeOptions = {}): Promise<ProbeReport> {
  const { only = '*', signal } = options;
  signal?.throwIfAborted();
  const all = areas.flatMap(({ name, probes }) => probes.map((one) => ({ area: name, one })));
  const wanted = new Set(
    selectIds(
      all.map(({ one }) => one.id),
      only,
    ),
  );
  const started = performance.now();
  const probes = await runAll(
    all.filter(({ one }) => wanted.has(one.id)),
    signal,
  );
  return {
    schema: REPORT_SCHEMA,
    kernel: { release: release(), machine: machine() },
    as: { uid: process.geteuid?.() ?? 0, initialUserNamespace: inInitialUserNamespace(runningKernel) },
    milliseconds: Math.round(performance.now() - started),
    probes,
    verdicts: verdictsOf(probes),
  };
}

async function runAll(questions: readonly { area: string; one: Probe }[], signal?: AbortSignal) {
  const entries: ProbeReportEntry[] = [];
  let prober = await Prober.start(signal);
  try {
    for (const { area, one } of questions) {
      const { id, description, since } = one;
      const began = performance.now();
      const answer = await prober.ask(id, PROBE_MS, signal);
      const milliseconds = Number((performance.now() - began).toFixed(1));
      entries.push({ id, area, description, since, ...findingOf(answer), milliseconds });
      if ('lost' in answer) {
        await prober.end();
        prober = await Prober.start(signal);
      }
    }
  } finally {
    await prober.end();
  }
  return entries;
}

function findingOf(answer: Finding | Lost): Finding {
  if (!('lost' in answer)) return answer;
  if (answer.lost === 'deadline') {
    const evidence = { seen: 'nothing', deadlineMs: PROBE_MS };
    return { result: 'differs', evidence, meaning: 'the kernel did not come back: the probe was killed' };
  }
  const evidence = { seen: 'killed', how: answer.how };
  return { result: 'differs', evidence, meaning: 'the process that asked did not survive it' };
}
