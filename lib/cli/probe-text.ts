// What `uffd probe` prints for people.
import { areas } from '../probe/areas/areas.js';
import type { Difference } from '../probe/compare.js';
import { needs } from '../probe/needs.js';
import type { Probe, ProbeResult } from '../probe/probe.js';
import type { ProbeReport, ProbeReportEntry } from '../probe/report.js';

/** Of most of the names: longer ones push their line to the right. */
const ID_WIDTH = 26;
const RESULTS: readonly ProbeResult[] = ['yes', 'no', 'differs', 'blocked', 'skipped'];

function evidenceText({ evidence }: ProbeReportEntry): string {
  const { seen, ...rest } = evidence;
  const details = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  return [seen, ...details].join(', ');
}

function whyOf({ blocker, remedy, meaning }: ProbeReportEntry): string | undefined {
  return remedy === undefined ? meaning : `${blocker ?? 'blocked'}: ${remedy}`;
}

function verdictLines(report: ProbeReport): string[] {
  return report.verdicts.map(
    ({ verdict, description, why }) =>
      `${verdict.padEnd(7)} ${description}${verdict === 'yes' ? '' : `\n        ${why}`}`,
  );
}

function heading(report: ProbeReport): string {
  const { release, machine } = report.kernel;
  const inside = report.as.initialUserNamespace ? '' : ' in a user namespace';
  const { length } = report.probes;
  return `Linux ${release} ${machine}, user ${report.as.uid}${inside}: ${length} probes in ${report.milliseconds} ms`;
}

/** The areas that have entries, in order. */
function byArea(report: ProbeReport): { title: string; entries: ProbeReportEntry[] }[] {
  return areas
    .map(({ name, title }) => ({ title, entries: report.probes.filter(({ area }) => area === name) }))
    .filter(({ entries }) => entries.length > 0);
}

/** The counts of each area, what differs, and the names of what is not there; `verbose`: every probe, with its evidence. */
export function summaryText(report: ProbeReport, verbose: boolean): string {
  const lines = [heading(report)];
  for (const { title, entries } of byArea(report)) {
    const of = (result: ProbeResult) => entries.filter((entry) => entry.result === result);
    const counts = RESULTS.filter((result) => of(result).length > 0).map((result) => `${of(result).length} ${result}`);
    lines.push('', `${title}: ${counts.join(', ')}`);
    if (verbose) lines.push(...entries.flatMap(entryLines));
    else lines.push(...of('differs').flatMap(entryLines), ...SHORT.flatMap((result) => namesLine(result, of(result))));
  }
  const remedies = new Set(report.probes.flatMap((entry) => (entry.result === 'blocked' ? (whyOf(entry) ?? []) : [])));
  if (remedies.size > 0) lines.push('', 'What stands in the way:', ...[...remedies].map((remedy) => `  ${remedy}`));
  if (report.verdicts.some(({ verdict }) => verdict !== 'unknown')) lines.push('', ...verdictLines(report));
  return lines.join('\n');
}

const SHORT: readonly ProbeResult[] = ['no', 'blocked', 'skipped'];
const NAMES = 8;

function entryLines(entry: ProbeReportEntry): string[] {
  const why = whyOf(entry);
  const line = `  ${entry.result.padEnd(7)} ${entry.id.padEnd(ID_WIDTH)}  ${evidenceText(entry)}`;
  return why === undefined ? [line] : [line, `          ${why}`];
}

function namesLine(result: ProbeResult, entries: readonly ProbeReportEntry[]): string[] {
  if (entries.length === 0) return [];
  const names = entries.slice(0, NAMES).map(({ id }) => id);
  const more = entries.length > NAMES ? ` and ${entries.length - NAMES} more (--verbose)` : '';
  return [`  ${result.padEnd(7)} ${names.join(', ')}${more}`];
}

/** For an issue or a wiki. */
export function markdownText(report: ProbeReport): string {
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const lines = [`Linux ${report.kernel.release} ${report.kernel.machine}, user ${report.as.uid}`, ''];
  lines.push('| use | verdict | |', '| --- | --- | --- |');
  for (const { description, verdict, why } of report.verdicts) {
    lines.push(`| ${description} | ${verdict} | ${cell(why)} |`);
  }
  lines.push('', '| probe | result | seen | |', '| --- | --- | --- | --- |');
  for (const entry of report.probes) {
    lines.push(`| \`${entry.id}\` | ${entry.result} | ${cell(evidenceText(entry))} | ${cell(whyOf(entry) ?? '')} |`);
  }
  return lines.join('\n');
}

export function listText(ids: ReadonlySet<string>): string {
  const probes = areas.flatMap((area) => area.probes).filter(({ id }) => ids.has(id));
  const width = Math.max(...probes.map(({ id }) => id.length));
  return probes
    .map(({ id, since, description }) => `${id.padEnd(width)}  ${since.padEnd(5)}  ${description}`)
    .join('\n');
}

export function explainText(probe: Probe): string {
  const lines = [probe.id, `  yes says: ${probe.description}`, `  since Linux ${probe.since}`];
  for (const need of probe.needs) lines.push(`  needs ${needs[need].description}`);
  lines.push('  answers that are known:');
  for (const [seen, { result, kernels, means }] of Object.entries(probe.outcomes)) {
    lines.push(`    ${seen}: ${result} (Linux ${kernels})${means === undefined ? '' : `; ${means}`}`);
  }
  return lines.join('\n');
}

export function differenceText(differences: readonly Difference[], before: ProbeReport, after: ProbeReport): string {
  const side = (entry: ProbeReportEntry | undefined) =>
    entry === undefined ? 'not asked' : `${entry.result} (${entry.evidence.seen})`;
  const lines = [`${before.kernel.release} -> ${after.kernel.release}: ${differences.length} probes differ`];
  for (const { id, before: first, after: second } of differences) {
    lines.push(`  ${id}: ${side(first)} -> ${side(second)}`);
  }
  return lines.join('\n');
}
