// Loading user code into a worker.
import { UffdError } from '../errors.js';
import type { ModuleReference, PageSource } from './page-source.js';
import type { FaultPolicy } from './policy.js';

async function load<T>(reference: ModuleReference, factory: string): Promise<T> {
  const exports = (await import(String(reference.module))) as Record<string, unknown>;
  const make = exports[factory] as ((data: unknown) => T | Promise<T>) | undefined;
  if (typeof make !== 'function') {
    throw new UffdError('ERR_INVALID_ARGUMENT', `${String(reference.module)} exports no function ${factory}(data)`);
  }
  return make(reference.data);
}

/** `openSource(data)` of the module. */
export async function openSource(reference: ModuleReference): Promise<PageSource> {
  return load<PageSource>(reference, 'openSource');
}

/** `createPolicy(data)` of the module. */
export async function createPolicy(reference: ModuleReference): Promise<FaultPolicy> {
  return load<FaultPolicy>(reference, 'createPolicy');
}
