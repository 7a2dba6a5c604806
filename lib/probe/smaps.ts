// /proc/self/smaps: what the kernel tells of one mapping.
import type { Scene } from './scene.js';

/** A line of it for the mapping that begins there; `absent`. */
export function smapsField(scene: Scene, start: number, field: string): string {
  const text = scene.kernel.readText('/proc/self/smaps') ?? '';
  const from = text.search(new RegExp(`^0*${start.toString(16)}-`, 'm'));
  return new RegExp(`^${field}:\\s*(.*?)(?: kB)?\\s*$`, 'm').exec(from < 0 ? '' : text.slice(from))?.[1] ?? 'absent';
}
