// clang-format over native/: `--check` reports, otherwise rewrites. Uses the pinned npm package, so that everyone has
// the same version.

import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { runChild } from './child.mjs';

const root = dirname(import.meta.dirname);

const files = readdirSync(join(root, 'native'), { recursive: true })
  .filter((name) => /\.(h|cc)$/.test(name))
  .map((name) => join('native', name));

// Its binary, not its command line, which buries the findings under a stack trace of its own.
const clangFormat = createRequire(import.meta.url)('clang-format').getNativeBinary();
const mode = process.argv.includes('--check') ? ['--dry-run', '-Werror'] : ['-i'];
const { status } = await runChild(clangFormat, [...mode, '--style=file', ...files], {
  cwd: root,
  inherit: true,
});
process.exitCode = status ?? 1;
