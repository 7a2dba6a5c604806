// What `uffd probe` prints for people.
import { areas } from '../probe/areas/areas.js';
import type { Difference } from '../probe/compare.js';
import { needs } from '../probe/needs.js';
import type { Probe, ProbeResult } from '../probe/probe.js';
import type { ProbeReport, ProbeReportEntry } from '../probe/report.js';

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

/** A line for each area, and those that are not `yes`; `verbose`: every probe, with its evidence. */
export function summaryText(report: ProbeReport, verbose: boolean): string {
  const lines = [heading(report), ''];
  for (const { title, entries } of byArea(report)) {
    const counts = RESULTS.map(
      (result) => [result, entries.filter((entry) => entry.result === result).length] as const,
    );
    lines.push(
      `${title}: ${counts.flatMap(([result, count]) => (count === 0 ? [] : `${count} ${result}`)).join(', ')}`,
    );
    const width = Math.max(...entries.map(({ id }) => id.length));
    for (const entry of verbose ? entries : entries.filter(({ result }) => result !== 'yes')) {
      lines.push(`  ${entry.result.padEnd(7)} ${entry.id.padEnd(width)}  ${evidenceText(entry)}`);
      const why = whyOf(entry);
      if (why !== undefined && (verbose || entry.result !== 'blocked')) lines.push(`          ${why}`);
    }
  }
  const remedies = new Set(report.probes.flatMap((entry) => (entry.result === 'blocked' ? (whyOf(entry) ?? []) : [])));
  if (remedies.size > 0) lines.push('', 'What stands in the way:', ...[...remedies].map((remedy) => `  ${remedy}`));
  if (report.verdicts.some(({ verdict }) => verdict !== 'unknown')) lines.push('', ...verdictLines(report));
  return lines.join('\n');
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
