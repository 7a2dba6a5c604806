// The pool of huge pages is one for the whole machine, and test files run side by side: whoever changes it holds a lock.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll } from 'vitest';

export const HUGE = 2 ** 21;
const pool = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages';
const lock = join(tmpdir(), 'uffd-test-huge-pages.lock');

export function poolSize(): number {
  return Number(readFileSync(pool, 'utf8'));
}

function takeLock(): boolean {
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

/** Reserves pages of 2 MiB for the tests of a file. @returns why there are none, once the tests run */
export function reserveHugePages(pages: number): () => string | undefined {
  let before: number | undefined;
  let why: string | undefined = 'not reserved yet';
  beforeAll(async () => {
    const until = performance.now() + 120_000;
    while (!takeLock()) {
      if (performance.now() > until) {
        why = `${lock} is held by another process`;
        return;
      }
      await delay(50);
    }
    try {
      before = poolSize();
      writeFileSync(pool, String(before + pages));
      why = poolSize() < before + pages ? 'the kernel has no huge pages to give' : undefined;
    } catch (error) {
      why = (error as Error).message;
    }
  }, 150_000);
  afterAll(() => {
    if (before !== undefined) writeFileSync(pool, String(before));
    if (why === undefined || before !== undefined) rmSync(lock, { recursive: true, force: true });
  });
  return () => why;
}
