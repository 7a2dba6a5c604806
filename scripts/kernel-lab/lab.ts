// All kernels, one after the other, and what came of them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type SanitizerKind, findingsAboutAddon, vcpuTests } from '../../scripts/sanitizers.mjs';
import { makeGuestDisk } from './guest-disk.js';
import { makeInitramfs } from './initramfs.js';
import type { Kernel } from './kernel.js';
import { Kernels, allKernels, isCached } from './kernels.js';
import { writeMatrix } from './matrix.js';
import { type Qemu, findQemu } from './qemu.js';
import { differences, record } from './recorded.js';
import { LabError } from './programs.js';
import { printReport } from './report.js';
import { type Outcome, outcomeOf } from './results.js';
import { requireTools } from './tools.js';
import { boot } from './virtual-machine.js';
import { Workspace } from './workspace.js';

export interface LabOptions {
  readonly kernels: readonly string[];
  readonly only?: readonly string[];
  readonly probe: boolean;
  /** What the addon is built with. */
  readonly sanitizer?: SanitizerKind;
  /** Minutes for each kernel. */
  readonly timeout: number;
  /** Failed tests of a kernel after which its others are not run; 0 for any number. */
  readonly bail: number;
  readonly refresh: boolean;
  /** Do nothing unless the cache has everything. */
  readonly cached: boolean;
  /** Keep what the probe answers, instead of holding it against what it answered before. */
  readonly record: boolean;
  readonly cache?: string;
  readonly json: boolean;
  readonly signal: AbortSignal;
}

/** What runs in a guest unless it is said otherwise: whatever the kernel decides. */
const TESTS = [
  ...['test/userfaultfd', 'test/memory', 'test/conformance', 'test/kvm'],
  ...['test/server/served-memory', 'test/server/fault-server', 'test/server/slow-sources'],
];
/** For booting and probing, beside the tests. */
const BESIDE_MS = 4 * 60_000;
const MEGABYTES = 3072;
/** Shadow memory, and what was freed and is kept, for the processes of two test files. */
const SANITIZED_MEGABYTES = 6144;

/** Resolves to the exit status. */
export async function runLab(options: LabOptions): Promise<number> {
  const say = (text: string) => console.error(`lab: ${text}`);
  const workspace = new Workspace({ signal: options.signal, say, ...(options.cache && { cache: options.cache }) });
  const missing = options.cached ? options.kernels.filter((name) => !isCached(name, workspace)) : [];
  if (missing.length > 0) {
    say(`skipped: the cache has no kernel ${missing.join(', ')}; \`npm run lab\` fetches them`);
    return 0;
  }
  requireTools();
  await workspace.lock();
  const kernels = new Kernels(workspace, options.refresh);
  const qemu = await findQemu(workspace);
  const disk = await makeGuestDisk(workspace, options.sanitizer);
  const outcomes: Outcome[] = [];
  for (const name of options.kernels)
    outcomes.push(await outcomeFor(name, kernels, { disk, qemu, workspace, options }));
  if (options.record) await writeMatrix();
  writeFileSync(join(workspace.folder('runs'), 'outcomes.json'), JSON.stringify(outcomes));
  if (options.json) process.stdout.write(`${JSON.stringify(outcomes)}\n`);
  else printReport(outcomes);
  const required = new Set(allKernels.filter((choice) => choice.required).map(({ name }) => name));
  const bad = ({ name, status }: Outcome) => status === 'failed' || (status === 'absent' && required.has(name));
  return outcomes.some(bad) ? 1 : 0;
}

interface Bench {
  readonly disk: string;
  readonly qemu: Qemu;
  readonly workspace: Workspace;
  readonly options: LabOptions;
}

/** A kernel that cannot be fetched or built has failed; the others are tried all the same. */
async function outcomeFor(name: string, kernels: Kernels, bench: Bench): Promise<Outcome> {
  const { say, signal } = bench.workspace;
  const nothing = (status: 'absent' | 'failed', why: string): Outcome => {
    say(`${name}: ${status}: ${why}`);
    return { name, release: '', status, why: why.split('\n')[0]!, seconds: 0 };
  };
  try {
    const found = await kernels.find(name);
    if ('absent' in found) return nothing('absent', found.absent);
    say(`${name}: Linux ${found.kernel.release}`);
    return await tryKernel(found.kernel, bench);
  } catch (error) {
    if (!(error instanceof LabError) || signal.aborted) throw error;
    return nothing('failed', error.message);
  }
}

async function tryKernel(kernel: Kernel, { disk, qemu, workspace, options }: Bench): Promise<Outcome> {
  const initramfs = await makeInitramfs(kernel, workspace);
  const seconds = options.timeout * 60;
  const words = [
    `lab.tests=${options.probe ? 0 : 1}`,
    `lab.only=${(options.only ?? (options.sanitizer === undefined ? TESTS : vcpuTests)).join(',')}`,
    `lab.seconds=${seconds}`,
    `lab.bail=${options.bail}`,
  ];
  const megabytes = options.sanitizer === undefined ? MEGABYTES : SANITIZED_MEGABYTES;
  const machine = { kernel, initramfs, disk, words, megabytes, timeoutMs: seconds * 1000 + BESIDE_MS };
  let ended = await boot(qemu, machine, workspace);
  // A panic before anything of ours has run says nothing about us. Once: a kernel that never boots has failed.
  if (ended.ending === 'panicked' && !ended.serial.includes('LAB-STARTED')) {
    workspace.say(`${kernel.name}: panicked while it booted, tried once more`);
    ended = await boot(qemu, machine, workspace);
  }
  const { sanitizer, probe } = options;
  let outcome = judged(outcomeOf(kernel.name, kernel.release, ended, !probe), options);
  if (sanitizer !== undefined && !probe) outcome = withFindings(outcome, findingsAboutAddon(sanitizer, ended.results));
  workspace.say(
    `${kernel.name}: ${outcome.status}${outcome.why === undefined ? '' : `: ${outcome.why}`} (${Math.round(ended.seconds)} s)`,
  );
  return outcome;
}

function withFindings(outcome: Outcome, findings: readonly string[]): Outcome {
  return findings.length === 0
    ? outcome
    : failedToo({ ...outcome, findings }, `${findings.length} of the sanitizer's reports are about the addon`);
}

function failedToo(outcome: Outcome, why: string): Outcome {
  return { ...outcome, status: 'failed', why: outcome.status === 'failed' ? `${outcome.why ?? ''}; ${why}` : why };
}

/** Held against what was recorded, or recorded. */
function judged(outcome: Outcome, options: LabOptions): Outcome {
  const { name, release, probe } = outcome;
  if (probe === undefined) return outcome;
  if (options.record) {
    record(name, release, probe);
    return outcome;
  }
  const changed = differences(name, probe);
  if (changed.length === 0) return outcome;
  const why = `${changed.length} ${changed.length === 1 ? 'answer' : 'answers'} of the probe changed`;
  return failedToo({ ...outcome, changed }, why);
}
