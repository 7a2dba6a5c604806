// Compiles lib/ into dist/.

import { chmodSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { runChild } from './child.mjs';
import { isMain } from './is-main.mjs';

const root = dirname(import.meta.dirname);
const dist = join(root, 'dist');

/** `run(command, args)` starts a program and resolves to its exit status. */
export async function buildTypeScript(run) {
  // From nothing: a file whose source is gone would still be published.
  rmSync(dist, { recursive: true, force: true });
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const status = await run(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')]);
  if (status === 0) chmodSync(join(dist, 'cli/main.js'), 0o755);
  return status;
}

if (isMain(import.meta)) {
  process.exitCode = await buildTypeScript(async (command, args) => {
    const { status } = await runChild(command, args, { cwd: root, inherit: true });
    return status ?? 1;
  });
}
