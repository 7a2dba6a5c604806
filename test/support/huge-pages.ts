// The pool of huge pages is one for the whole machine, and test files run side by side: whoever changes it holds a lock.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { milliseconds } from './deadline.js';

export const HUGE = 2 ** 21;
const pools = {
  '2M': '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages',
  '1G': '/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages',
} as const;

export function poolSize(size: keyof typeof pools = '2M'): number {
  return Number(readFileSync(pools[size], 'utf8'));
}

/** Of the pool: what a run takes before it reserves any. */
export function freeInPool(size: keyof typeof pools = '2M'): number {
  return Number(readFileSync(pools[size].replace('nr_hugepages', 'free_hugepages'), 'utf8'));
}

function takeLock(lock: string): boolean {
  try {
    mkdirSync(lock);
    writeFileSync(join(lock, 'pid'), String(process.pid));
    return true;
  } catch {
    try {
      process.kill(Number(readFileSync(join(lock, 'pid'), 'utf8')), 0);
    } catch (error) {
      // Its owner was killed.
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') rmSync(lock, { recursive: true, force: true });
    }
    return false;
  }
}

/** Reserves huge pages for the tests of a file or suite. @returns why there are none, once the tests run */
export function reserveHugePages(pages: number, size: keyof typeof pools = '2M'): () => string | undefined {
  const lock = join(tmpdir(), `uffd-test-huge-pages-${size}.lock`);
  const pool = pools[size];
  let locked = false;
  let added = 0;
  let why: string | undefined = 'not reserved yet';
  beforeAll(async () => {
    if (!existsSync(pool)) {
      why = 'this machine has none of that size';
      return;
    }
    const until = performance.now() + milliseconds(120_000);
    while (!(locked = takeLock(lock))) {
      if (performance.now() > until) {
        why = `${lock} is held by another process`;
        return;
      }
      await delay(50);
    }
    try {
      const before = poolSize(size);
      writeFileSync(pool, String(before + pages));
      added = poolSize(size) - before;
      why = added < pages ? 'the kernel has no huge pages to give' : undefined;
    } catch (error) {
      why = (error as Error).message;
    }
  }, milliseconds(150_000));
  afterAll(async () => {
    // Not back to what was: what does not take the lock may have changed the pool meanwhile.
    const after = added > 0 ? Math.max(0, poolSize(size) - added) : 0;
    for (let waited = 0; added > 0 && waited < milliseconds(5000); waited += 50) {
      writeFileSync(pool, String(after));
      if (poolSize(size) <= after) break;
      // A process that was killed has not gone yet.
      await delay(50);
    }
    if (locked) rmSync(lock, { recursive: true, force: true });
  });
  return () => why;
}

/** Lets the kernel make transparent huge pages of that size where madvise(2) asks for them, until the test ends. */
export function allowFolios(bytes: number): boolean {
  const folder = '/sys/kernel/mm/transparent_hugepage';
  const own = `${folder}/hugepages-${bytes / 1024}kB`;
  // Before 6.8 (shared memory: 6.11) there was one size, and one setting.
  const settings = [
    [existsSync(own) ? `${own}/enabled` : bytes === HUGE ? `${folder}/enabled` : '', 'madvise'],
    [
      existsSync(`${own}/shmem_enabled`) ? `${own}/shmem_enabled` : bytes === HUGE ? `${folder}/shmem_enabled` : '',
      'advise',
    ],
  ] as const;
  for (const [path, value] of settings) {
    if (path === '' || !existsSync(path)) continue;
    const before = /\[(\w+)\]/.exec(readFileSync(path, 'utf8'))![1]!;
    writeFileSync(path, value);
    onTestFinished(() => {
      writeFileSync(path, before);
    });
  }
  return settings[0][0] !== '';
}
