// `npm test`: sets up what is missing, then runs the tests; arguments are vitest's.

import { join } from 'node:path';
import process from 'node:process';
import { become } from './become.mjs';
import { setUpOrExit } from './setup.mjs';
import { root } from './setup/steps.mjs';

await setUpOrExit();
await become(join(root, 'node_modules/vitest/vitest.mjs'), ['run', ...process.argv.slice(2)]);
