// Importing the package must not load the addon; the first use does.
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { isSupported } from '../../dist/index.js';

const loaded = () => (readFileSync('/proc/self/maps', 'utf8').includes('uffd.node') ? 'one' : 'no addon');
const before = loaded();
isSupported();
process.stdout.write(`${before}, then ${loaded()}`);
