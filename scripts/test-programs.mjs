// Compiles the C programs of the tests. As a program: all of them, into a folder for a machine without a compiler, where
// UFFD_TEST_BIN names it.
//
//   node scripts/test-programs.mjs FOLDER

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { isMain } from './is-main.mjs';

const tests = join(import.meta.dirname, '../test');

/** The path of the compiled program; compiled anew only when its source, or a header beside it, has changed. */
export function testProgram(source, folder) {
  const binary = join(folder, basename(source, '.c'));
  const headers = readdirSync(dirname(source)).filter((name) => name.endsWith('.h'));
  const changed = [source, ...headers.map((name) => join(dirname(source), name))].map((path) => statSync(path).mtimeMs);
  if (existsSync(binary) && statSync(binary).mtimeMs > Math.max(...changed)) return binary;
  mkdirSync(folder, { recursive: true });
  // Test files run side by side: a program appears whole.
  const unfinished = `${binary}.${process.pid}`;
  execFileSync('cc', ['-Wall', '-Wextra', '-O1', '-pthread', source, '-o', unfinished, ...libraries(source)]);
  renameSync(unfinished, binary);
  return binary;
}

function usesFuse(source) {
  return readFileSync(source, 'utf8').includes('#include <fuse.h>');
}

function libraries(source) {
  if (!usesFuse(source)) return [];
  return execFileSync('pkg-config', ['--cflags', '--libs', 'fuse3'], { encoding: 'utf8' }).trim().split(/\s+/);
}

function compileAll(folder) {
  const fuse = spawnSync('pkg-config', ['--exists', 'fuse3']).status === 0;
  for (const name of readdirSync(tests, { recursive: true })) {
    if (!name.endsWith('.c')) continue;
    const source = join(tests, name);
    if (usesFuse(source) && !fuse) console.error(`${name}: left out, libfuse3-dev or pkg-config is missing`);
    else console.log(testProgram(source, folder));
  }
}

if (isMain(import.meta)) {
  const [folder] = process.argv.slice(2);
  if (folder === undefined) {
    console.error('usage: node scripts/test-programs.mjs FOLDER');
    process.exit(2);
  }
  compileAll(folder);
}
