// What /proc/self/smaps says of a mapping.
import { readFileSync } from 'node:fs';
import type { Mapping } from '../../dist/index.js';

/** The text of a field, without its unit: `smapsField(mapping, 'VmFlags')`. Empty when the kernel does not have it. */
export function smapsField(mapping: Mapping, name: string): string {
  const [, after = ''] = readFileSync('/proc/self/smaps', 'utf8').split(`\n${mapping.address.toString(16)}-`);
  return new RegExp(`^${name}: +(.*?)(?: kB)?$`, 'm').exec(after)?.[1]?.trim() ?? '';
}

/** A field that is a size, in bytes. */
export function smapsBytes(mapping: Mapping, name: string): number {
  return Number(smapsField(mapping, name)) * 1024;
}
