// Makes prebuilds/linux-<arch>/uffd.node, the binary that the published package carries: most users
// have no compiler, and npm 12 runs no install script that could compile.

import { copyFileSync, mkdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import process from 'node:process';
import { runChild } from './child.mjs';
import { isMain } from './is-main.mjs';
import { setUp } from './setup.mjs';
import { root } from './setup/steps.mjs';

/** Resolves to the path of the binary. */
export async function makePrebuild() {
  await setUp();
  const prebuild = join(root, `prebuilds/linux-${process.arch}/uffd.node`);
  mkdirSync(dirname(prebuild), { recursive: true });
  copyFileSync(join(root, 'build/Release/uffd.node'), prebuild);
  const { status, output } = await runChild('strip', ['--strip-unneeded', prebuild]);
  if (status !== 0) throw new Error(`strip failed:\n${output}`);
  return prebuild;
}

if (isMain(import.meta)) console.log(relative(process.cwd(), await makePrebuild()));
