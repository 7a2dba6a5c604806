// The bytes of the guest are those of its source.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Entry, guestProgram } from '../../dist/vmm/guest-program.js';
import { temporaryFolder } from '../e2e/support.js';
import { requires } from '../support/requires.js';

const source = join(import.meta.dirname, '../../examples/mini-vmm/guest.s');
const folder = temporaryFolder();

test('guest.s, assembled, is the guest program, and its labels are the entries', (context) => {
  requires(context, 'as');
  const [object, binary] = [join(folder, 'guest.o'), join(folder, 'guest.bin')];
  execFileSync('as', ['-o', object, source]);
  execFileSync('objcopy', ['-O', 'binary', '-j', '.text', object, binary]);
  expect(readFileSync(binary).equals(guestProgram)).toBe(true);
  const symbols = execFileSync('nm', [object], { encoding: 'utf8' });
  for (const [name, offset] of Object.entries(Entry)) {
    expect(symbols).toMatch(new RegExp(`^0*${offset.toString(16).padStart(1, '0')} t ${name}$`, 'm'));
  }
});
