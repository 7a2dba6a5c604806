// Two reports beside each other: what changed from one kernel, host or user to the next.
import * as v from 'valibot';
import { UffdError } from '../errors.js';
import { schemaIssue } from '../schema-issue.js';
import { type ProbeReport, type ProbeReportEntry, REPORT_SCHEMA } from './report.js';

export interface Difference {
  readonly id: string;
  /** Undefined: not asked there. */
  readonly before: ProbeReportEntry | undefined;
  readonly after: ProbeReportEntry | undefined;
}

/** The probes whose result, or the answer it rests on, is not the same; those of `before` first. */
export function compareReports(before: ProbeReport, after: ProbeReport): Difference[] {
  const first = new Map(before.probes.map((entry) => [entry.id, entry]));
  const second = new Map(after.probes.map((entry) => [entry.id, entry]));
  return [...new Set([...first.keys(), ...second.keys()])]
    .map((id) => ({ id, before: first.get(id), after: second.get(id) }))
    .filter(
      (one) => one.before?.result !== one.after?.result || one.before?.evidence.seen !== one.after?.evidence.seen,
    );
}

const results = v.picklist(['yes', 'no', 'blocked', 'differs', 'skipped']);
const entry = v.looseObject({
  id: v.string(),
  area: v.string(),
  description: v.string(),
  since: v.string(),
  result: results,
  evidence: v.objectWithRest({ seen: v.string() }, v.union([v.string(), v.number(), v.boolean()])),
  milliseconds: v.number(),
});
const report = v.looseObject({
  schema: v.literal(REPORT_SCHEMA),
  kernel: v.object({ release: v.string(), machine: v.string() }),
  probes: v.array(entry),
});

/** Reads a report that `uffd probe --json` printed. @throws UffdError ERR_INVALID_ARGUMENT with what is wrong */
export function parseReport(text: string, name: string): ProbeReport {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new UffdError('ERR_INVALID_ARGUMENT', `${name} is not JSON: give a file that uffd probe --json has printed`);
  }
  const result = v.safeParse(report, parsed);
  if (result.success) return parsed as ProbeReport;
  const problem = schemaIssue(result.issues);
  throw new UffdError('ERR_INVALID_ARGUMENT', `${name} is not a report of uffd probe --json: ${problem}`);
}
