// What this process holds: descriptors and mappings, for tests that must leave none behind.
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { milliseconds } from './deadline.js';

/** Open descriptors whose link in /proc/self/fd contains `kind`; all of them by default. */
export function openDescriptors(kind = ''): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes(kind);
    } catch {
      // The descriptor of the directory listing itself.
      return false;
    }
  }).length;
}

/** Lines of /proc/self/maps that contain `name`. */
export function mappingsOf(name: string): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(name)).length;
}

/** Collects garbage until the condition holds; the result is whether it came to hold. */
export async function collectUntil(condition: () => boolean): Promise<boolean> {
  if (globalThis.gc === undefined) throw new Error('needs --expose-gc');
  for (let waited = 0; waited < milliseconds(3000); waited += 10) {
    await delay(10);
    globalThis.gc();
    if (condition()) return true;
  }
  return false;
}
