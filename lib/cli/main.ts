#!/usr/bin/env node
// The command `uffd`: its table of commands, and how each of them fails.
import { readFileSync } from 'node:fs';
import { Command, CommanderError, Help, type Option } from 'commander';
import { messageOf } from '../errors.js';
import { ExitCode } from './exit.js';

/** In the order of the help. Each is loaded when it is asked for: a server need not have in memory what others do. */
const commands: Record<string, () => Promise<(program: Command) => void>> = {
  demo: async () => (await import('./commands/demo.js')).addDemo,
  serve: async () => (await import('./commands/serve.js')).addServe,
  touch: async () => (await import('./commands/touch.js')).addTouch,
  bench: async () => (await import('./commands/bench.js')).addBench,
  stress: async () => (await import('./commands/stress.js')).addStress,
  probe: async () => (await import('./commands/probe.js')).addProbe,
  vmm: async () => (await import('./commands/vmm.js')).addVmm,
};

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('uffd')
  .description('Linux page faults served from userspace')
  .version(version)
  // Else `uffd bench vcpu --json` would be the option of `uffd bench`.
  .enablePositionalOptions()
  .exitOverride()
  .configureHelp({ optionDescription })
  .configureOutput({
    outputError: (text, write) => {
      write(text.replace(/^error: /, 'uffd: '));
    },
  })
  .addHelpText('after', '\nExit status: 0 done, 1 failed, 2 wrong usage.');

/** That something is off, or that there is none of it, unless it is asked for goes without saying. */
function optionDescription(option: Option): string {
  const { defaultValue } = option as { defaultValue: unknown };
  const plain = defaultValue === false || (Array.isArray(defaultValue) && defaultValue.length === 0);
  const shown = plain ? (Object.create(option, { defaultValue: { value: undefined } }) as Option) : option;
  return new Help().optionDescription(shown);
}

// Whoever reads may stop reading (`uffd probe | head`): no reason to die in the middle of what is served.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

const [asked = ''] = process.argv.slice(2);
for (const name of Object.hasOwn(commands, asked) ? [asked] : Object.keys(commands)) (await commands[name]!())(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  } else {
    const { refusalOf } = await import('./refusal.js');
    process.stderr.write(`uffd: ${(await refusalOf(error)) ?? messageOf(error)}\n`);
    process.exitCode = ExitCode.failed;
  }
}
