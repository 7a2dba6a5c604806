#!/usr/bin/env node
// The command `uffd`: its table of commands, and how each of them fails.
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { messageOf } from '../errors.js';
import { addBench } from './commands/bench.js';
import { addDemo } from './commands/demo.js';
import { addProbe } from './commands/probe.js';
import { addServe } from './commands/serve.js';
import { addStress } from './commands/stress.js';
import { addTouch } from './commands/touch.js';
import { addVmm } from './commands/vmm.js';
import { ExitCode } from './exit.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('uffd')
  .description('Linux page faults served from userspace')
  .version(version)
  // Else `uffd bench vcpu --json` would be the option of `uffd bench`.
  .enablePositionalOptions()
  .exitOverride()
  .configureOutput({
    outputError: (text, write) => {
      write(text.replace(/^error: /, 'uffd: '));
    },
  })
  .addHelpText('after', '\nExit status: 0 done, 1 failed, 2 wrong usage.');

addDemo(program);
addServe(program);
addTouch(program);
addBench(program);
addStress(program);
addProbe(program);
addVmm(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  } else {
    process.stderr.write(`uffd: ${messageOf(error)}\n`);
    process.exitCode = ExitCode.failed;
  }
}
