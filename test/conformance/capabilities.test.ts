// A test is skipped where the kernel lacks what it needs, as the library says. So that a fault of the library does not skip
// what would find it: what a kernel of this version has for certain must be there.
import process from 'node:process';
import { expect, test } from 'vitest';
import { isSupported } from '../../dist/index.js';
import { native } from '../../dist/native/load.js';
import { type Capability, lacks, linux } from '../support/requires.js';

const since: readonly [Capability, number, number][] = [
  ['uffd-minor', 5, 14],
  ['uffd-exact-address', 5, 18],
  ['uffd-wp-shmem', 5, 19],
  ['memfd-noexec', 6, 3],
  ['uffd-wp-unpopulated', 6, 4],
  ['uffd-poison', 6, 6],
  ['uffd-wp-async', 6, 7],
  ['pagemap-scan', 6, 7],
  ['uffd-move', 6, 8],
  ['guard-anon', 6, 13],
  ['wp-mremap', 6, 14],
  ['guard-shmem', 6, 15],
  ['pagemap-guard', 6, 15],
  ['uffd-rwp', 7, 3],
];

/** Tried without the library: 1 is UFFD_USER_MODE_ONLY. */
function opens(flags: number): boolean {
  const fd = native().systemCall('userfaultfd', flags);
  if (fd >= 0) native().closeFd(fd);
  return fd >= 0;
}

test('a userfaultfd that the kernel gives is supported', () => {
  const { supported, kernelFaults } = isSupported();
  if (opens(1)) expect(supported).toBe(true);
  if (opens(0)) expect(kernelFaults).toBe(true);
});

test.for(since)('%s since Linux %d.%d', ([capability, major, minor], context) => {
  if (process.arch !== 'x64') context.skip('arch: the versions are those of x86-64');
  if (!linux(major, minor)) context.skip(`linux: ${capability} came with ${major}.${minor}`);
  if (!opens(1)) context.skip('uffd: this kernel gives none');
  expect(lacks(capability)).toBe(false);
});
