// Which reports of a sanitizer are about the addon.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type SanitizerKind, findingsAboutAddon } from '../../scripts/sanitizers.mjs';

const native = resolve(import.meta.dirname, '../../native');
const inAddon = `    #1 0x7f01 in uffd::Vcpu::run() ${native}/os/kvm_vcpu.cc:12`;
const inNode = '    #1 0x7f02 in v8::internal::Scavenger::Process() (/usr/bin/node+0x119)';
const inLibrary = '    #0 0x7f00 in malloc ../../../../src/libsanitizer/asan/asan_malloc_linux.cpp:145';

function found(kind: SanitizerKind, name: string, text: string): number {
  const reports = mkdtempSync(join(tmpdir(), 'uffd-reports-'));
  onTestFinished(() => {
    rmSync(reports, { recursive: true });
  });
  writeFileSync(join(reports, name), text);
  return findingsAboutAddon(kind, reports).length;
}

function leak(...frames: string[]): string {
  return ['Direct leak of 8 byte(s) in 1 object(s) allocated from:', ...frames].join('\n');
}

const separator = '==================';

function race(...frames: string[]): string {
  return [separator, 'WARNING: ThreadSanitizer: data race', '  Write of size 4:', ...frames, separator, ''].join('\n');
}

test('what the addon leaves behind is; what V8 allocates on its behalf is not', () => {
  expect(found('address', 'ASAN_OPTIONS.1', leak(inLibrary, inAddon))).toBe(1);
  expect(found('address', 'ASAN_OPTIONS.1', leak(inLibrary, inNode, inAddon))).toBe(0);
  expect(found('address', 'ASAN_OPTIONS.1', [leak(inLibrary, inAddon), leak(inLibrary, inNode)].join('\n\n'))).toBe(1);
});

test('undefined behaviour has no frames', () => {
  expect(found('address', 'UBSAN_OPTIONS.1', `${native}/os/clock.h:3:1: runtime error: signed overflow\n`)).toBe(1);
});

test('of a race, any of its stacks', () => {
  const other = '  Previous read of size 4:\n    #0 0x7f00 in read (/usr/lib/libtsan.so.2+0x1)';
  expect(found('thread', 'TSAN_OPTIONS.1', race(inNode.replace('#1', '#0'), other, inAddon))).toBe(1);
  expect(found('thread', 'TSAN_OPTIONS.1', race(inNode.replace('#1', '#0'), other, inNode))).toBe(0);
});

test('other files of the folder are no reports', () => {
  expect(found('address', 'tests.log', leak(inLibrary, inAddon))).toBe(0);
});
