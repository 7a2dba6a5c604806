// Compiles the addon from source, into build/Release/uffd.node.
// Published with the package, for hosts the prebuilt binary does not fit: nothing but Node's own modules here.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const root = dirname(import.meta.dirname);

/** Something outside the project is missing; the message is the one sentence the user needs. */
export class MissingTool extends Error {}

/**
 * Runs `node-gyp rebuild`. `run(command, args)` starts a program and resolves to its exit status,
 * so that the caller decides where a page of compiler output goes.
 */
export async function buildAddon(run, extraArgs = []) {
  requireTools();
  const nodeGyp = findNodeGyp();
  const nodedir = await headerArgs(run, nodeGyp);
  return run(process.execPath, [nodeGyp, 'rebuild', '--loglevel=warn', '--jobs=max', ...nodedir, ...extraArgs]);
}

// Asked by starting them: a version manager's shim can be on the PATH with nothing behind it.
export function requireTools() {
  const env = process.env;
  const tools = [
    { name: 'g++', command: env.CXX ?? 'g++' },
    { name: 'make', command: env.MAKE ?? 'make' },
    { name: 'python3', command: env.npm_config_python ?? env.PYTHON ?? 'python3' },
  ];
  const missing = tools.filter(({ command }) => !starts(command)).map(({ name }) => name);
  if (missing.length === 0) return;
  throw new MissingTool(
    `Compiling the addon needs ${missing.join(' and ')}, not found here; ` +
      'on Debian or Ubuntu: apt-get install g++ make python3',
  );
}

function starts(command) {
  // CXX may carry a launcher or flags: `ccache g++`.
  return spawnSync(command.split(' ')[0], ['--version'], { stdio: 'ignore' }).status === 0;
}

// Without --nodedir, node-gyp downloads headers even when this Node came with them.
async function headerArgs(run, nodeGyp) {
  const installed = installedHeaders();
  if (installed) return [`--nodedir=${installed}`];
  // A step of its own, so that its exit status alone says that it is the headers that are missing.
  if ((await run(process.execPath, [nodeGyp, 'install', '--ensure'])) === 0) return [];
  throw new MissingTool(
    'Compiling the addon needs the headers of Node.js, neither installed nor downloadable here; ' +
      'on Debian: apt-get install libnode-dev, or use a Node.js installation that has include/node, ' +
      'or set npm_config_nodedir to one',
  );
}

/** The Node.js installation or source tree whose headers can be compiled against, if there is one. */
export function installedHeaders() {
  const ofThisNode = dirname(dirname(process.execPath));
  return [process.env.npm_config_nodedir, ofThisNode].find((folder) => folder && hasHeaders(folder));
}

function hasHeaders(nodedir) {
  // An installation has the first, a source tree the second.
  return ['include/node/node_api.h', 'src/node_api.h'].some((header) => existsSync(join(nodedir, header)));
}

// In a checkout it is a devDependency; in an installed package npm brings its own.
function findNodeGyp() {
  try {
    return createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  } catch {
    const ofNpm = process.env.npm_config_node_gyp;
    if (ofNpm && existsSync(ofNpm)) return ofNpm;
  }
  throw new MissingTool(
    'Compiling the addon needs node-gyp, which npm brings: npm explore userfaultfd -- npm run build:addon',
  );
}

function runInTheOpen(command, args) {
  return new Promise((resolve, reject) => {
    spawn(command, args, { cwd: root, stdio: 'inherit' })
      .on('error', reject)
      .on('close', (status) => resolve(status ?? 1));
  });
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = await buildAddon(runInTheOpen, process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof MissingTool)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
