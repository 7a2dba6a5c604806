// What `probe()` returns and `uffd probe --json` prints. A change that breaks a reader raises `REPORT_SCHEMA`
// (docs/probe.md).
import type { Finding } from './probe.js';

export const REPORT_SCHEMA = 1;

/** One probe of a report. */
export interface ProbeReportEntry extends Finding {
  readonly id: string;
  readonly area: string;
  readonly description: string;
  readonly since: string;
  readonly milliseconds: number;
}

/** One of the three things people want a userfaultfd for. */
export interface Verdict {
  readonly use: 'user-faults' | 'kernel-faults' | 'guest-memfd-faults';
  readonly description: string;
  /** `unknown`: a probe that it rests on was not among those asked. */
  readonly verdict: 'yes' | 'no' | 'unknown';
  /** What it rests on, or what stands in the way, with the remedy. */
  readonly why: string;
}

/** What `probe` resolves with, and `uffd probe --json` prints: docs/probe.md. */
export interface ProbeReport {
  readonly schema: typeof REPORT_SCHEMA;
  readonly kernel: { readonly release: string; readonly machine: string };
  /** Who asked: effective user id, and whether in the initial user namespace. */
  readonly as: { readonly uid: number; readonly initialUserNamespace: boolean };
  readonly milliseconds: number;
  readonly probes: readonly ProbeReportEntry[];
  readonly verdicts: readonly Verdict[];
}
