// Whether a module is the program that Node was started with, however it was spelled (a symbolic link, say).

import { realpathSync } from 'node:fs';
import process from 'node:process';

export function isMain(meta) {
  const program = process.argv[1];
  return program !== undefined && realpathSync(program) === meta.filename;
}
