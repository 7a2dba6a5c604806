// `npm start`: sets up what is missing, then runs the demonstration.

import { join } from 'node:path';
import process from 'node:process';
import { become } from './become.mjs';
import { setUpOrExit } from './setup.mjs';
import { root } from './setup/steps.mjs';

await setUpOrExit();
await become(join(root, 'dist/cli/main.js'), ['demo', ...process.argv.slice(2)]);
