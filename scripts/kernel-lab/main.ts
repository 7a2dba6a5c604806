// `npm run lab`: the probe and the tests on kernels other than the machine's own.
import { Command } from 'commander';
import { type LabOptions, runLab } from './lab.js';
import { type SanitizerKind, kinds } from '../../scripts/sanitizers.mjs';
import { LabError } from './programs.js';
import { allKernels } from './kernels.js';

const names = allKernels.map(({ name }) => name);

function listed(text: string): string[] {
  return text.split(',').filter((part) => part !== '');
}

function chosenKernels(text: string): string[] {
  const chosen = listed(text);
  const unknown = chosen.filter((name) => !names.includes(name));
  if (chosen.length > 0 && unknown.length === 0) return chosen;
  console.error(`error: no such kernel: ${unknown.join(', ') || text}. The lab has ${names.join(', ')}.`);
  process.exit(2);
}

function minutes(text: string): number {
  const number = Number(text);
  if (number > 0 && number <= 24 * 60) return number;
  console.error(`error: --timeout takes minutes, not ${text}.`);
  process.exit(2);
}

function failures(text: string): number {
  const number = Number(text);
  if (text !== '' && Number.isSafeInteger(number) && number >= 0) return number;
  console.error(`error: --bail takes a number of failed tests, or 0 for all tests, not ${text}.`);
  process.exit(2);
}

function sanitizer(text: string): SanitizerKind {
  const kind = kinds.find((known) => known === text);
  if (kind !== undefined) return kind;
  console.error(`error: no such sanitizer: ${text}. There are ${kinds.join(' and ')}.`);
  process.exit(2);
}

const program = new Command('npm run lab --')
  .description('run the probe and the tests on other kernels, in QEMU')
  .option('--kernels <list>', `some of ${names.join(',')}`, chosenKernels, [...names])
  .option('--only <patterns>', 'tests whose file matches, as for vitest, by commas', listed)
  .option('--probe', 'the probe only, no tests', false)
  .option(
    '--sanitizer <kind>',
    `the addon with a sanitizer in it, ${kinds.join(' or ')}: unless --only, what has vCPUs`,
    sanitizer,
  )
  .option('--timeout <minutes>', 'for the tests of each kernel', minutes, 30)
  .option('--bail <failures>', 'failed tests after which a kernel has failed; 0: run all of them', failures, 10)
  .option('--refresh', 'look for newer kernels than the cache has', false)
  .option('--cached', 'only if the cache has all of them; otherwise say so, and succeed', false)
  .option('--record', "keep the probe's answers as those to expect, and write docs/kernel-matrix.md", false)
  .option('--cache <folder>', 'where kernels are kept (default: ~/.cache/userfaultfd-kernel-lab)')
  .option('--json', 'the outcomes as one JSON object on stdout', false)
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .parse();

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => stop.abort(new LabError(`stopped by ${signal}`)));
}
try {
  process.exitCode = await runLab({ ...program.opts<Omit<LabOptions, 'signal'>>(), signal: stop.signal });
} catch (error) {
  if (!(error instanceof LabError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
