// What the probe answered on each kernel when it was last recorded: what docs/kernel-matrix.md is made of, and what
// every later run is held against.
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ProbeReport } from './results.js';
import { assets } from './workspace.js';

export interface Recorded {
  readonly release: string;
  /** By id: the result and, unless it is `yes`, what was seen. */
  readonly answers: Readonly<Record<string, string>>;
}

export interface Difference {
  readonly id: string;
  readonly recorded: string;
  readonly now: string;
}

const folder = join(assets, 'recorded');
/** Of the machine, not of its kernel. */
const OF_THE_HOST = new Set(['host', 'opening']);

export function recordedFor(name: string): Recorded | undefined {
  const path = join(folder, `${name}.json`);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Recorded) : undefined;
}

export function recordedKernels(): string[] {
  const version = (name: string) => name.split('.').map(Number);
  const order = (a: string, b: string) => version(a)[0]! - version(b)[0]! || version(a)[1]! - version(b)[1]!;
  const names = existsSync(folder) ? readdirSync(folder).map((file) => file.replace(/\.json$/, '')) : [];
  const series = names.filter((name) => /^\d/.test(name)).sort(order);
  return [...series, ...names.filter((name) => !/^\d/.test(name))];
}

export function record(name: string, release: string, report: ProbeReport): void {
  mkdirSync(folder, { recursive: true });
  const recorded: Recorded = { release, answers: answersOf(report) };
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(recorded, null, 2)}\n`);
}

/** Where a report is not what was recorded; nothing when nothing was. */
export function differences(name: string, report: ProbeReport): Difference[] {
  const before = recordedFor(name)?.answers;
  if (before === undefined) return [];
  const now = answersOf(report);
  return [...new Set([...Object.keys(before), ...Object.keys(now)])]
    .map((id) => ({ id, recorded: before[id] ?? 'not asked', now: now[id] ?? 'not asked' }))
    .filter((difference) => difference.recorded !== difference.now);
}

function answersOf({ probes }: ProbeReport): Record<string, string> {
  const answered = probes.filter(({ area }) => !OF_THE_HOST.has(area));
  return Object.fromEntries(answered.map((probe) => [probe.id, answerOf(probe)]));
}

function answerOf({ result, evidence }: ProbeReport['probes'][number]): string {
  const seen = typeof evidence?.seen === 'string' ? evidence.seen : undefined;
  return result === 'yes' || seen === undefined ? result : `${result}: ${seen}`;
}
