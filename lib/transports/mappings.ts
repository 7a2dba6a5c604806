// The mappings a client sends: JSON from outside, hostile until checked.
import * as v from 'valibot';
import { UffdError } from '../errors.js';
import { schemaIssue } from '../schema-issue.js';

/** A mapping as it travels: docs/handoff-protocol.md. */
export interface WireMapping {
  /** Address of the mapping in the client. */
  readonly base_host_virt_addr: number;
  /** Bytes. */
  readonly size: number;
  /** Offset in the source and in the memory, in bytes. */
  readonly offset: number;
  /** Bytes of a page. */
  readonly page_size: number;
}

export const MAX_REGIONS = 1024;
/** Pages of one client: a byte of state each, and numbers that fit into 31 bits. 1 TiB of base pages. */
export const MAX_PAGES = 2 ** 28;
/** The largest page a server answers with: a fill is one answer from one buffer. */
export const MAX_PAGE_SIZE = 2 * 2 ** 20;

/** JSON has a negative zero: it is zero. */
export const unsigned = v.pipe(
  v.number(),
  v.safeInteger(),
  v.minValue(0),
  v.transform((value) => value + 0),
);
const schema = v.pipe(
  v.array(v.object({ base_host_virt_addr: unsigned, size: unsigned, offset: unsigned, page_size: unsigned })),
  v.minLength(1),
  v.maxLength(MAX_REGIONS),
);

function refuse(reason: string): never {
  throw new UffdError('ERR_HANDOFF_REFUSED', reason);
}

/** Parses the text of a handshake. @throws UffdError ERR_HANDOFF_REFUSED with the reason */
export function parseMappings(text: string): WireMapping[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    refuse('the handshake is not JSON');
  }
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  return refuse(`the handshake is not an array of mappings: ${schemaIssue(parsed.issues)}`);
}

/**
 * Checks mappings against each other and against the source; 5-level page tables reach up to 2^56.
 * @returns the page size they share
 * @throws UffdError ERR_HANDOFF_REFUSED with the reason
 */
export function checkMappings(mappings: readonly WireMapping[], sourceSizeBytes: number, basePageSize: number): number {
  const pageSize = mappings[0]!.page_size;
  const powerOfTwo = pageSize > 0 && Number.isInteger(Math.log2(pageSize));
  if (!powerOfTwo || pageSize < basePageSize || pageSize > MAX_PAGE_SIZE) {
    refuse(`page_size ${pageSize} is not a power of two from ${basePageSize} to ${MAX_PAGE_SIZE}`);
  }
  const limit = Math.ceil(sourceSizeBytes / pageSize) * pageSize;
  mappings.forEach((mapping, i) => {
    checkOne(mapping, i, pageSize, limit, sourceSizeBytes);
  });
  const pages = mappings.reduce((sum, { size }) => sum + size / pageSize, 0);
  if (pages > MAX_PAGES) refuse(`${pages} pages are more than one client can have (${MAX_PAGES})`);
  checkDisjoint(mappings, 'base_host_virt_addr', 'addresses');
  checkDisjoint(mappings, 'offset', 'offsets');
  return pageSize;
}

function checkOne(mapping: WireMapping, i: number, pageSize: number, limit: number, sourceSize: number): void {
  const { base_host_virt_addr: base, size, offset } = mapping;
  if (mapping.page_size !== pageSize) refuse(`mapping ${i}: page_size differs from mapping 0`);
  if (size === 0) refuse(`mapping ${i}: size is 0`);
  if (base % pageSize !== 0 || size % pageSize !== 0 || offset % pageSize !== 0) {
    refuse(`mapping ${i}: address, size and offset must be multiples of page_size ${pageSize}`);
  }
  if (base === 0 || base + size > 2 ** 52) refuse(`mapping ${i}: address and size leave the user address space`);
  if (offset + size > limit) {
    refuse(`mapping ${i}: ends at ${offset + size}, after the last page of the source (${sourceSize} bytes)`);
  }
}

function checkDisjoint(mappings: readonly WireMapping[], key: 'base_host_virt_addr' | 'offset', what: string): void {
  const sorted = [...mappings].sort((a, b) => a[key] - b[key]);
  for (let i = 1; i < sorted.length; i++) {
    const before = sorted[i - 1]!;
    if (before[key] + before.size > sorted[i]![key]) refuse(`two mappings overlap in their ${what}`);
  }
}
