// The table at the end of a run.
import Table from 'cli-table3';
import type { Outcome } from './results.js';

const SHOWN = 20;

export function printReport(outcomes: readonly Outcome[]): void {
  const table = new Table({
    head: ['kernel', 'release', 'result', 'passed', 'failed', 'skipped', 'seconds'],
    style: { head: [], border: [] },
  });
  for (const { name, release, status, why, tests, seconds } of outcomes) {
    const skipped = Object.values(tests?.skipped ?? {}).reduce((sum, count) => sum + count, 0);
    const counts = tests === undefined ? ['', '', ''] : [tests.passed, tests.failed.length, skipped];
    table.push([name, release, why === undefined ? status : `${status}: ${why}`, ...counts, Math.round(seconds)]);
  }
  console.log(table.toString());
  printSkips(outcomes);
  for (const outcome of outcomes) printFailures(outcome);
}

/** By reason, with the kernels that gave it. */
function printSkips(outcomes: readonly Outcome[]): void {
  const reasons = new Map<string, string[]>();
  for (const { name, tests } of outcomes) {
    for (const [reason, count] of Object.entries(tests?.skipped ?? {})) {
      reasons.set(reason, [...(reasons.get(reason) ?? []), `${name}: ${count}`]);
    }
  }
  if (reasons.size === 0) return;
  console.log('Skipped, by reason:');
  for (const [reason, counts] of [...reasons].sort()) console.log(`  ${reason} (${counts.join(', ')})`);
}

function printFailures({ name, status, tests, changed = [], findings = [], results }: Outcome): void {
  if (status !== 'failed') return;
  console.log(`${name}: everything that was recorded is in ${results ?? 'no folder'}`);
  for (const { id, recorded, now } of changed) console.log(`  probe ${id}: ${now} (recorded: ${recorded})`);
  for (const finding of findings.slice(0, SHOWN)) console.log(`  ${finding.trim().replaceAll('\n', '\n  ')}`);
  const failed = tests?.failed ?? [];
  for (const { name: test, message } of failed.slice(0, SHOWN))
    console.log(`  ${test}\n    ${message.split('\n')[0] ?? ''}`);
  if (failed.length > SHOWN) console.log(`  and ${failed.length - SHOWN} more`);
}
