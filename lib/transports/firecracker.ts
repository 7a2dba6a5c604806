// The message of Firecracker's `mem_backend` of type `Uffd`, every release from 1.1 on: one JSON array and one
// descriptor. Nothing is ever said back: Firecracker does not read, and before 1.12 it closes the socket at once.
import * as v from 'valibot';
import { UffdError } from '../errors.js';
import { MAX_REGIONS, type WireMapping, unsigned } from './mappings.js';

const schema = v.pipe(
  v.array(
    v.object({
      base_host_virt_addr: unsigned,
      size: unsigned,
      offset: unsigned,
      /** From 1.7 on, to go in 2.0: bytes, whatever its name says. */
      page_size_kib: v.optional(unsigned),
      /** From 1.12 on. */
      page_size: v.optional(unsigned),
    }),
  ),
  v.minLength(1),
  v.maxLength(MAX_REGIONS),
);

/**
 * The mappings, when the text is Firecracker's: it has `page_size_kib`, or no page size at all. Undefined when it is not,
 * or is the same as a handoff of anonymous memory; then that codec answers for it.
 * @param basePageSize what the releases before 1.7 mean
 * @throws UffdError ERR_HANDOFF_REFUSED when it contradicts itself
 */
export function parseFirecracker(text: string, basePageSize: number): WireMapping[] | undefined {
  const parsed = v.safeParse(schema, jsonOf(text));
  if (!parsed.success) return undefined;
  const mappings = parsed.output;
  if (mappings.every((one) => one.page_size !== undefined && one.page_size_kib === undefined)) return undefined;
  return mappings.map((one, i) => {
    const { base_host_virt_addr, size, offset, page_size, page_size_kib } = one;
    if (page_size !== undefined && page_size_kib !== undefined && page_size !== page_size_kib) {
      const reason = `mapping ${i}: page_size ${page_size} and page_size_kib ${page_size_kib} differ; both are bytes`;
      throw new UffdError('ERR_HANDOFF_REFUSED', reason);
    }
    return { base_host_virt_addr, size, offset, page_size: page_size ?? page_size_kib ?? basePageSize };
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
