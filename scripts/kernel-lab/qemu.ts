// QEMU 8 or newer: the code that 7.2 generates crashes guest kernels at random. Debian 12 has 7.2, its backports 10.0;
// taken from there into the cache it runs with the libraries of the one that is installed.
import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DebianMirror } from './debian-mirror.js';
import type { Workspace } from './workspace.js';

export interface Qemu {
  readonly program: string;
  readonly args: readonly string[];
}

const OLDEST = 8;
const PACKAGES = ['qemu-system-x86', 'qemu-system-common', 'qemu-system-data', 'seabios'];

export async function findQemu(workspace: Workspace): Promise<Qemu> {
  const installed = await workspace.succeed('qemu-system-x86_64', ['--version']);
  if (Number(/version (\d+)\./.exec(installed)?.[1]) >= OLDEST) return { program: 'qemu-system-x86_64', args: [] };
  const folder = join(workspace.cache, 'qemu');
  if (!existsSync(folder)) await fetchQemu(folder, workspace);
  const share = join(folder, 'usr/share');
  return {
    program: join(folder, 'usr/bin/qemu-system-x86_64'),
    args: ['-L', join(share, 'qemu'), '-L', join(share, 'seabios')],
  };
}

async function fetchQemu(folder: string, workspace: Workspace): Promise<void> {
  const mirror = new DebianMirror(workspace);
  const unpacked = workspace.folder('work', 'qemu');
  rmSync(unpacked, { recursive: true, force: true });
  for (const name of PACKAGES) await mirror.unpack(name, unpacked, 'bookworm-backports');
  renameSync(unpacked, folder);
}
