// `npm run lab`: sets up what is missing, compiles scripts/kernel-lab and runs it.

import { join } from 'node:path';
import process from 'node:process';
import { become } from './become.mjs';
import { runChild } from './child.mjs';
import { setUpOrExit } from './setup.mjs';
import { root } from './setup/steps.mjs';

await setUpOrExit();
const tsc = join(root, 'node_modules/typescript/bin/tsc');
const { status, output } = await runChild(process.execPath, [tsc, '-p', join(root, 'scripts/kernel-lab')]);
if (status === 0) {
  await become(join(root, 'build/kernel-lab/main.js'), process.argv.slice(2));
} else {
  console.error(output);
  process.exitCode = 1;
}
