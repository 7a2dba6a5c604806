// The three steps of a setup, in their order: what each one needs, makes and runs.

import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { buildAddon, requireTools } from '../build-addon.mjs';
import { buildTypeScript } from '../build.mjs';
import { contentHash } from './stamp.mjs';

export const root = dirname(dirname(import.meta.dirname));

const abi = [process.versions.modules, process.platform, process.arch];

const dependencies = {
  announcement: 'installing the dependencies',
  failure: 'Installing the dependencies (npm ci) failed',
  stamp: join(root, 'node_modules/.uffd-setup.json'),
  product: join(root, 'node_modules'),
  inputs: () => contentHash(root, ['package-lock.json'], ...abi),
  make: (run) => run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']),
};

const addon = {
  announcement: 'compiling the addon (about 20 s)',
  failure: 'Compiling the addon failed',
  stamp: join(root, 'build/.uffd-setup.json'),
  product: join(root, 'build/Release/uffd.node'),
  inputs: () => contentHash(root, ['binding.gyp', 'native', 'node_modules/node-addon-api/package.json'], ...abi),
  require: requireTools,
  make: (run) => buildAddon(run),
};

const typeScript = {
  announcement: 'compiling TypeScript',
  failure: 'Compiling TypeScript failed',
  stamp: join(root, 'dist/.uffd-setup.json'),
  product: join(root, 'dist/cli/main.js'),
  inputs: () => contentHash(root, ['lib', 'package.json', ...tsconfigs()]),
  make: (run) => buildTypeScript(run),
};

function tsconfigs() {
  return readdirSync(root)
    .filter((name) => /^tsconfig.*\.json$/.test(name))
    .sort();
}

export const steps = [dependencies, addon, typeScript];

/** Whether the step's product is there; that it is current is the stamp's to say. */
export function isMade(step) {
  return existsSync(step.product);
}
