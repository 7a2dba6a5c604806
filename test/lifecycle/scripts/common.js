// What the scripts share: counting what the process holds, waiting with a deadline, saying `ok`.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { Mapping, Userfaultfd, pageSize } from '../../../dist/index.js';

export { assert, delay };
export const page = pageSize();

export function registered(pages = 1) {
  const mapping = Mapping.anonymous(pages * page);
  const uffd = Userfaultfd.open();
  return { mapping, uffd, region: uffd.register(mapping, ['missing']) };
}

/** Descriptors whose link contains `kind`. */
export function descriptors(kind) {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes(kind);
    } catch {
      return false;
    }
  }).length;
}

export function mappings(name) {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(name)).length;
}

export function threads() {
  return readdirSync('/proc/self/task').length;
}

export async function eventually(condition, what) {
  for (let tries = 0; tries < 500; tries++) {
    // In this order: what `condition` dereferenced lives until the end of its job.
    await delay(10);
    globalThis.gc();
    if (condition()) return;
  }
  assert.fail(`never: ${what}`);
}

export async function firstFault(uffd) {
  for await (const fault of uffd) return fault;
  throw new Error('closed');
}

export function ok() {
  process.stdout.write('ok\n');
}
