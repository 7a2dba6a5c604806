// What a guest has brought back.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Difference } from './recorded.js';
import type { Ended } from './virtual-machine.js';

export interface Failure {
  readonly name: string;
  readonly message: string;
}

export interface TestResults {
  readonly passed: number;
  readonly failed: readonly Failure[];
  /** How many, by reason. */
  readonly skipped: Readonly<Record<string, number>>;
}

/** As docs/probe.md describes it. */
export interface ProbeReport {
  readonly schema: number;
  readonly kernel: { readonly release: string };
  readonly probes: readonly {
    readonly id: string;
    readonly area: string;
    readonly result: string;
    readonly evidence?: { readonly seen?: unknown };
  }[];
}

export interface Outcome {
  readonly name: string;
  readonly release: string;
  readonly status: 'passed' | 'failed' | 'absent';
  /** In a few words, for all but `passed`. */
  readonly why?: string;
  readonly seconds: number;
  readonly tests?: TestResults;
  readonly probe?: ProbeReport;
  /** Answers of the probe that are not the recorded ones. */
  readonly changed?: readonly Difference[];
  /** Reports of a sanitizer about the addon. */
  readonly findings?: readonly string[];
  /** Folder with everything that was recorded. */
  readonly results?: string;
}

export function outcomeOf(name: string, release: string, ended: Ended, withTests: boolean): Outcome {
  const { ending, results, seconds } = ended;
  const base = { name, release, seconds, results };
  const failed = (why: string, more: object = {}) => ({ ...base, ...more, status: 'failed' as const, why });
  if (ending !== 'done') return failed(`the guest ${descriptions[ending]}`);
  const ran = text(results, 'release');
  if (ran !== release) return failed(`another kernel ran: ${ran ?? 'it did not say which'}`);
  const probe = json(results, 'probe.json') as ProbeReport | undefined;
  if (probe === undefined || text(results, 'probe.status') !== '0') return failed('the probe did not end well');
  if (!withTests) return { ...base, status: 'passed', probe };
  const tests = json(results, 'tests.json') as TestResults | undefined;
  if (tests === undefined) return failed('the tests did not come to their end', { probe });
  const broken = tests.failed.length;
  if (broken > 0) return failed(`${broken} ${broken === 1 ? 'test' : 'tests'} failed`, { probe, tests });
  if (text(results, 'tests.status') !== '0') return failed('the tests ended with an error', { probe, tests });
  if (tests.passed === 0) return failed('no test ran', { probe, tests });
  return { ...base, status: 'passed', probe, tests };
}

const descriptions = {
  'not started': 'did not start',
  panicked: 'panicked',
  'timed out': 'took too long',
  'ended early': 'ended before it was done',
} as const;

function text(folder: string, name: string): string | undefined {
  const path = join(folder, name);
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

function json(folder: string, name: string): unknown {
  try {
    return JSON.parse(text(folder, name) ?? '');
  } catch {
    return undefined;
  }
}
