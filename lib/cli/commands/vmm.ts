// `uffd vmm`: a small VMM that restores a guest lazily; its commands.
import type { Command } from 'commander';
import { addMigrate, addReceive } from '../vmm/migrate.js';
import { addRestore } from '../vmm/restore.js';
import { addRun } from '../vmm/run.js';

export function addVmm(program: Command): void {
  const vmm = program
    .command('vmm')
    .description('a small virtual machine monitor that restores its guest lazily (KVM)');
  addRun(vmm);
  addRestore(vmm);
  addMigrate(vmm);
  addReceive(vmm);
  vmm.addHelpText('after', () => `\n${vmm.commands.map((command) => command.helpInformation()).join('\n')}`);
}
