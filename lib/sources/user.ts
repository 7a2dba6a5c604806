// Sources of the user's own: a module that workers import, or an object on the thread that makes the server.
import { UffdError } from '../errors.js';
import type { ModuleReference, PageSource, SourceSpec } from '../server/page-source.js';

function checkedSize(sizeBytes: number): number {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
    throw new UffdError('ERR_OUT_OF_RANGE', `sizeBytes must be a positive whole number, not ${sizeBytes}`);
  }
  return sizeBytes;
}

/**
 * A module that exports `openSource(data, where): PageSource | Promise<PageSource>`.
 * @param options.runsIn `serving` for a source with `readNow` only, `fetching` for one with `read` only, or `both`
 * @param options.fetchWorkers threads for `read`, each with a source of its own. Default 1
 */
export function moduleSource(
  reference: ModuleReference,
  options: { sizeBytes: number; runsIn: 'serving' | 'fetching' | 'both'; fetchWorkers?: number },
): SourceSpec {
  return { ...options, sizeBytes: checkedSize(options.sizeBytes), module: reference };
}

/** An object on this thread, which then must not touch served memory: it would wait for itself. */
export function objectSource(source: PageSource, options: { sizeBytes: number }): SourceSpec {
  return { sizeBytes: checkedSize(options.sizeBytes), object: source, close: () => source.close?.() };
}
