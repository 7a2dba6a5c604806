// What a guest starts with: busybox, the modules of its kernel, and the script that goes on from the disk.
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Kernel } from './kernel.js';
import { type Workspace, assets } from './workspace.js';

export async function makeInitramfs(kernel: Kernel, workspace: Workspace): Promise<string> {
  const folder = workspace.folder('work', `initramfs-${kernel.name}`);
  const archive = join(workspace.folder('runs'), `${kernel.name}.cpio`);
  rmSync(folder, { recursive: true, force: true });
  for (const name of ['bin', 'modules', 'dev', 'proc', 'sys', 'disk'])
    mkdirSync(join(folder, name), { recursive: true });
  copyFileSync('/bin/busybox', join(folder, 'bin/busybox'));
  copyFileSync(join(assets, 'guest/init'), join(folder, 'init'));
  for (const module of kernel.modules) copyFileSync(module, join(folder, 'modules', basename(module)));
  // Owned by root whoever makes it.
  const script = 'find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet > "$1"';
  await workspace.succeed('sh', ['-c', script, 'sh', archive], { cwd: folder });
  rmSync(folder, { recursive: true });
  return archive;
}
