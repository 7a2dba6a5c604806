// The sanitizers: the addon with one in it, what the processes that load it are given, and which findings are about it.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { installedHeaders } from './build-addon.mjs';
import { runChild } from './child.mjs';
import { root } from './setup/steps.mjs';

const sanitizers = {
  address: {
    library: /libasan\.so/,
    // Memory errors abort, so that the test fails too; leaks are found at exit, where nothing is left to fail.
    ASAN_OPTIONS: ['abort_on_error=1', 'detect_leaks=1', 'exitcode=0'],
    UBSAN_OPTIONS: ['print_stacktrace=1'],
  },
  thread: {
    library: /libtsan\.so/,
    // process.exit() on the main thread runs no cleanup hooks: threads that have ended are joined by nobody then.
    TSAN_OPTIONS: ['exitcode=0', 'second_deadlock_stack=1', 'die_after_fork=0', 'report_thread_leaks=0'],
  },
};

/** Tests of the threads of vCPUs, which need KVM; here or in a guest of the lab. */
export const vcpuTests = ['test/kvm/vcpu', 'test/kvm/lifecycle'];

/** `address` and `thread`. */
export const kinds = Object.keys(sanitizers);

/** Relative to the root of the checkout. */
export function outputFolder(kind) {
  return `build/cmake-${kind}`;
}

/** Relative to the root of the checkout. */
export function addonOf(kind) {
  return join(outputFolder(kind), 'Release/uffd.node');
}

/** Compiles the addon with the sanitizer. @throws Error whose message is what the compiler said */
export async function buildAddonWith(kind) {
  const cmakeJs = join(root, 'node_modules/cmake-js/bin/cmake-js');
  const { status, output } = await runChild(
    process.execPath,
    [cmakeJs, 'compile', '-O', outputFolder(kind), `--CDUFFD_SANITIZE=${kind}`],
    // Named, or cmake-js downloads what is already here.
    { cwd: root, env: { ...process.env, npm_config_nodedir: installedHeaders() } },
  );
  if (status !== 0) throw new Error(output);
}

/**
 * The environment of a process that loads that addon: the sanitizer's library has to be there before anything else.
 * @param place the root of the checkout and a folder for reports, where that process runs
 */
export async function processEnv(kind, place) {
  const { library, ...options } = sanitizers[kind];
  const { stdout } = await runChild('ldd', [join(root, addonOf(kind))]);
  const preload = [...stdout.matchAll(/=> (\/\S+)/g)].map(([, path]) => path).find((path) => library.test(path));
  const env = { LD_PRELOAD: preload, UFFD_ADDON: join(place.root, addonOf(kind)) };
  for (const [name, flags] of Object.entries(options)) {
    env[name] = [...flags, `log_path=${join(place.reports, name)}`].join(':');
  }
  return env;
}

/** What the report files of a folder say about the addon. */
export function findingsAboutAddon(kind, reports) {
  return readdirSync(reports)
    .filter((name) => /^[AUT]B?SAN_OPTIONS\./.test(name))
    .flatMap((name) => findings(kind, readFileSync(join(reports, name), 'utf8')))
    .filter(isOurs);
}

/** The findings in a report file: of a race all stacks together, of leaks one each. */
function findings(kind, report) {
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
