// Goes on as another program in this very process: its exit status, signals and terminal need no
// forwarding. (Ctrl-C reaches a whole process group: a wrapper that passed it on would double it.)

import process from 'node:process';
import { pathToFileURL } from 'node:url';

export async function become(program, args) {
  process.argv = [process.execPath, program, ...args];
  await import(pathToFileURL(program));
}
