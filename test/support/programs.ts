// The C programs that tests start: compiled here, or, where there is no compiler, ready in the folder UFFD_TEST_BIN
// (scripts/test-programs.mjs).
import { basename, join } from 'node:path';
import process from 'node:process';
import { testProgram } from '../../scripts/test-programs.mjs';

const ready = process.env['UFFD_TEST_BIN'];

/** @param source of the program, `/…/test/conformance/puppet.c` */
export function compiled(source: string): string {
  if (ready !== undefined) return join(ready, basename(source, '.c'));
  return testProgram(source, join(import.meta.dirname, '../../build/test'));
}
