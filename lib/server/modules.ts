// Loading user code into a worker.
import { UffdError } from '../errors.js';
import type { ModuleReference, PageSource } from './page-source.js';
import type { FaultPolicy } from './policy.js';

async function load<T>(reference: ModuleReference, factory: string, where?: string): Promise<T> {
  const exports = (await import(String(reference.module))) as Record<string, unknown>;
  const make = exports[factory] as ((data: unknown, where?: string) => T | Promise<T>) | undefined;
  if (typeof make !== 'function') {
    throw new UffdError('ERR_INVALID_ARGUMENT', `${String(reference.module)} exports no function ${factory}(data)`);
  }
  return make(reference.data, where);
}

/** `openSource(data, where)` of the module. */
export async function openSource(reference: ModuleReference, where: 'serving' | 'fetching'): Promise<PageSource> {
  return load<PageSource>(reference, 'openSource', where);
}

/** `createPolicy(data)` of the module. */
export async function createPolicy(reference: ModuleReference): Promise<FaultPolicy> {
  return load<FaultPolicy>(reference, 'createPolicy');
}
