// An empty folder with the packed package in it, installed the way a user of npm 12 does: without scripts.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { runChild } from '../child.mjs';

/** The package is not right; the message says all. */
export class CheckFailed extends Error {}

/** Runs `work(folder)` in a temporary folder that is removed whatever happens, signals included. */
export async function inTemporaryFolder(work) {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-package-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  try {
    return await work(folder);
  } finally {
    process.removeListener('exit', remove);
    remove();
  }
}

export async function install(folder, ...packages) {
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  await succeed('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', ...packages], {
    cwd: folder,
    timeoutMs: 5 * 60_000,
  });
}

/** Resolves to the stdout of a program that must succeed. */
export async function succeed(command, args, { cwd, timeoutMs = 60_000 } = {}) {
  const options = { cwd, env: cleanEnv(), timeoutMs };
  const { status, stdout, output } = await runChild(command, args, options);
  if (status === 0) return stdout;
  throw new CheckFailed(`${command} ${args.join(' ')}: exit status ${status}\n${output}`);
}

// What `npm run` says about this project would lead an npm in another folder astray.
function cleanEnv() {
  const aboutThisProject = /^(npm_(package|lifecycle)_|npm_config_local_prefix$|INIT_CWD$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !aboutThisProject.test(name)));
}
