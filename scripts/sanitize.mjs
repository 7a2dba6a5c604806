// Runs the tests that exercise the addon against one built with a sanitizer: `sanitize.mjs address|thread [vitest arguments]`.
// Findings are judged by the sanitizer's report files alone: the preload also reaches programs that the
// tests start (compilers among them), whose leaks are not ours and must not change their exit status.

import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { runChild } from './child.mjs';
import { buildAddonWith, findingsAboutAddon, kinds, outputFolder, processEnv, vcpuTests } from './sanitizers.mjs';
import { setUpOrExit } from './setup.mjs';
import { root } from './setup/steps.mjs';

const TESTS = ['test/native', 'test/lifecycle', ...vcpuTests];

const [kind, ...vitestArgs] = process.argv.slice(2);
if (!kinds.includes(kind)) {
  console.error('usage: sanitize.mjs address|thread [vitest arguments]');
  process.exit(2);
}

const reportFolder = join(root, outputFolder(kind), 'reports');

await setUpOrExit();
await buildAddonWith(kind).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
rmSync(reportFolder, { recursive: true, force: true });
mkdirSync(reportFolder, { recursive: true });
const testsPassed = await runTests();
const ourReports = findingsAboutAddon(kind, reportFolder);
for (const report of ourReports) console.error(report);
console.error(`${kind} sanitizer: ${ourReports.length} reports about the addon`);
process.exitCode = testsPassed && ourReports.length === 0 ? 0 : 1;

async function runTests() {
  const vitest = [join(root, 'node_modules/vitest/vitest.mjs'), 'run'];
  // Instrumented code is several times slower.
  const slower = ['--testTimeout=120000', '--hookTimeout=120000'];
  const tests = vitestArgs.length > 0 ? vitestArgs : TESTS;
  const [command, ...args] = [...launcher(), process.execPath, ...vitest, ...slower, ...tests];
  const workerEnv = await processEnv(kind, { root, reports: reportFolder });
  const env = { ...process.env, UFFD_TEST_WORKER_ENV: JSON.stringify(workerEnv) };
  const { status } = await runChild(command, args, { cwd: root, env, inherit: true });
  return status === 0;
}

// ThreadSanitizer cannot place its shadow memory beside addresses as random as some kernels make them.
function launcher() {
  if (kind !== 'thread') return [];
  const bits = Number(readFileSync('/proc/sys/vm/mmap_rnd_bits', 'utf8'));
  return bits > 28 ? ['setarch', '-R'] : [];
}
