// Runs the tests that exercise the addon against one built with a sanitizer: `sanitize.mjs address|thread [vitest arguments]`.
// Findings are judged by the sanitizer's report files alone: the preload also reaches programs that the
// tests start (compilers among them), whose leaks are not ours and must not change their exit status.

import { mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import process from 'node:process';
import { installedHeaders } from './build-addon.mjs';
import { runChild } from './child.mjs';
import { setUpOrExit } from './setup.mjs';
import { root } from './setup/steps.mjs';

const sanitizers = {
  address: {
    library: 'libasan.so',
    // Memory errors abort, so that the test fails too; leaks are found at exit, where nothing is left to fail.
    ASAN_OPTIONS: ['abort_on_error=1', 'detect_leaks=1', 'exitcode=0'],
    UBSAN_OPTIONS: ['print_stacktrace=1'],
  },
  thread: {
    library: 'libtsan.so',
    // process.exit() on the main thread runs no cleanup hooks: threads that have ended are joined by nobody then.
    TSAN_OPTIONS: ['exitcode=0', 'second_deadlock_stack=1', 'die_after_fork=0', 'report_thread_leaks=0'],
  },
};

const [kind, ...vitestArgs] = process.argv.slice(2);
const sanitizer = sanitizers[kind];
if (!sanitizer) {
  console.error('usage: sanitize.mjs address|thread [vitest arguments]');
  process.exit(2);
}

const outputFolder = join(root, `build/cmake-${kind}`);
const reportFolder = join(outputFolder, 'reports');

await setUpOrExit();
await compile();
rmSync(reportFolder, { recursive: true, force: true });
mkdirSync(reportFolder, { recursive: true });
const testsPassed = await runTests();
const ourReports = readReports().flatMap(findings).filter(isOurs);
for (const report of ourReports) console.error(report);
console.error(`${kind} sanitizer: ${ourReports.length} reports about the addon`);
process.exitCode = testsPassed && ourReports.length === 0 ? 0 : 1;

async function compile() {
  const cmakeJs = join(root, 'node_modules/cmake-js/bin/cmake-js');
  const { status, output } = await runChild(
    process.execPath,
    [cmakeJs, 'compile', '-O', relative(root, outputFolder), `--CDUFFD_SANITIZE=${kind}`],
    // Named, or cmake-js downloads what is already here.
    { cwd: root, env: { ...process.env, npm_config_nodedir: installedHeaders() } },
  );
  if (status === 0) return;
  console.error(output);
  process.exit(1);
}

async function runTests() {
  const vitest = [join(root, 'node_modules/vitest/vitest.mjs'), 'run'];
  // Instrumented code is several times slower.
  const slower = ['--testTimeout=120000', '--hookTimeout=120000'];
  const tests = vitestArgs.length > 0 ? vitestArgs : ['test/native', 'test/lifecycle'];
  const [command, ...args] = [...launcher(), process.execPath, ...vitest, ...slower, ...tests];
  const env = { ...process.env, UFFD_TEST_WORKER_ENV: JSON.stringify(await workerEnv()) };
  const { status } = await runChild(command, args, { cwd: root, env, inherit: true });
  return status === 0;
}

// ThreadSanitizer cannot place its shadow memory beside addresses as random as some kernels make them.
function launcher() {
  if (kind !== 'thread') return [];
  const bits = Number(readFileSync('/proc/sys/vm/mmap_rnd_bits', 'utf8'));
  return bits > 28 ? ['setarch', '-R'] : [];
}

async function workerEnv() {
  const { library, ...options } = sanitizer;
  const { stdout } = await runChild('gcc', [`-print-file-name=${library}`]);
  const env = { LD_PRELOAD: stdout.trim(), UFFD_ADDON: join(outputFolder, 'Release/uffd.node') };
  for (const [name, flags] of Object.entries(options)) {
    env[name] = [...flags, `log_path=${join(reportFolder, name)}`].join(':');
  }
  return env;
}

function readReports() {
  return readdirSync(reportFolder).map((name) => readFileSync(join(reportFolder, name), 'utf8'));
}

/** The findings in a report file: of a race all stacks together, of leaks one each. */
function findings(report) {
  return report.split(kind === 'thread' ? /^=+$/m : /\n\n+/);
}

/**
 * Whether a finding is about our code: the first frame outside the sanitizer and the C and C++ libraries, of any of its
 * stacks, lies in the addon. Deeper down the addon is in every stack: of what V8 allocates on its behalf and leaves
 * behind at process.exit(), and of Node's own message ports, which are not instrumented.
 */
function isOurs(finding) {
  // The sanitizer does not see timerfd_create: a number that it had as a file of libuv's is still that file to it.
  const created = /Location is file descriptor \d+ created by[^]*?\n\n/.exec(finding)?.[0];
  if (created !== undefined && !created.includes('uffd.node')) return false;
  return stacksOf(finding).some((frames) => {
    const first = frames.find((frame) => !/libsanitizer|lib(asan|tsan|ubsan|c|stdc\+\+)\.so/.test(frame));
    return first !== undefined && (first.includes('uffd.node') || first.includes(join(root, 'native/')));
  });
}

function stacksOf(finding) {
  const stacks = [];
  // Who created a thread says nothing about what it did.
  for (const line of finding.replace(/^ *Thread T\d+.*created by[^]*?\n\n/gm, '').split('\n')) {
    const frame = /^\s*#(\d+) (.*)/.exec(line);
    if (!frame && /runtime error:/.test(line)) stacks.push([line]);
    if (!frame) continue;
    if (frame[1] === '0') stacks.push([]);
    stacks.at(-1)?.push(frame[2]);
  }
  return stacks;
}
