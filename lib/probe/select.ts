// Which probes: ids, and globs of them.
import { UffdError } from '../errors.js';

/** `*` is any number of characters, of `?` one; several patterns are separated by commas. */
export function selectIds(ids: readonly string[], patterns: string): string[] {
  const wanted = patterns.split(',').map((pattern) => pattern.trim());
  const selected = new Set<string>();
  for (const pattern of wanted) {
    const matching = ids.filter((id) => globExpression(pattern).test(id));
    if (matching.length === 0) {
      throw new UffdError(
        'ERR_INVALID_ARGUMENT',
        `no probe is called ${JSON.stringify(pattern)}: see uffd probe --list`,
      );
    }
    for (const id of matching) selected.add(id);
  }
  return ids.filter((id) => selected.has(id));
}

function globExpression(pattern: string): RegExp {
  const escaped = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${escaped}$`);
}
