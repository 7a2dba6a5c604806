// uffd_msg[] -> typed events. Pure: bytes in, objects out.
import { EventKind } from '../native/contract.js';
import type { Region } from './region.js';
import type { Userfaultfd } from './userfaultfd.js';

/** A page fault (UFFD_EVENT_PAGEFAULT). A message is a hint: it can be stale or come more than once. */
export interface PageFault {
  readonly type: 'pagefault';
  /** `missing`: no page; `minor`: in the page cache, not mapped; `wp`, `rwp`: protected. */
  readonly reason: 'missing' | 'minor' | 'wp' | 'rwp';
  readonly write: boolean;
  /** Page-aligned unless `exactAddress` was asked for. */
  readonly address: bigint;
  /** The registered region and the page in it. */
  readonly region: Region;
  readonly page: number;
  /** Thread that faulted, in its own pid namespace; 0 unless `threadId` was asked for. */
  readonly threadId: number;
}

/** A fault in no region this object registered: in memory that was moved there (mremap). */
export interface UnknownFault extends Omit<PageFault, 'type' | 'region' | 'page'> {
  readonly type: 'unknown-pagefault';
}

/** The range was or is about to be dropped (madvise) or unmapped. `end` is exclusive. */
export interface RangeGone {
  readonly type: 'remove' | 'unmap';
  readonly start: bigint;
  readonly end: bigint;
}

/** The range was moved (mremap(2)), and its registration with it. */
export interface Remapped {
  readonly type: 'remap';
  readonly from: bigint;
  readonly to: bigint;
  readonly lengthBytes: bigint;
}

/**
 * The process forked. The userfaultfd is the child's, with the regions and features of its parent's, and belongs to the
 * receiver of the event: closed, the child reads zeroes where its parent would have faulted. Needs the feature eventFork
 * (4.11) and CAP_SYS_PTRACE. With no descriptor left reading fails with EMFILE, and the event comes again.
 */
export interface Forked {
  readonly type: 'fork';
  readonly userfaultfd: Userfaultfd;
}

/** An event this version does not know, kept raw. */
export interface UnknownEvent {
  readonly type: 'unknown';
  readonly event: number;
  readonly bytes: Uint8Array;
}

/** Everything a userfaultfd can say; told apart by `type`. */
export type FaultEvent = PageFault | UnknownFault | RangeGone | Remapped | Forked | UnknownEvent;

/** sizeof(struct uffd_msg). */
export const MESSAGE_BYTES = 32;
const PAGEFAULT_FLAG = { write: 1n, wp: 2n, minor: 4n, rwp: 8n } as const;

function reasonOf(flags: bigint): PageFault['reason'] {
  if (flags & PAGEFAULT_FLAG.wp) return 'wp';
  if (flags & PAGEFAULT_FLAG.minor) return 'minor';
  return flags & PAGEFAULT_FLAG.rwp ? 'rwp' : 'missing';
}

/** What the decoding of messages needs of whoever reads them. */
export interface Decoding {
  /** The region an address lies in. */
  regionAt(address: bigint): Region | undefined;
  /** Takes over the descriptor of a child. */
  adoptChild(fd: number): Userfaultfd;
}

/** Decodes the message at `offset`. */
export function decodeMessage(bytes: DataView, offset: number, decoding: Decoding): FaultEvent {
  const event = bytes.getUint8(offset);
  const word = (n: number) => bytes.getBigUint64(offset + 8 + n * 8, true);
  switch (event) {
    case EventKind.pagefault: {
      const flags = word(0);
      const address = word(1);
      const common = {
        reason: reasonOf(flags),
        write: (flags & PAGEFAULT_FLAG.write) !== 0n,
        address,
        threadId: bytes.getUint32(offset + 24, true),
      };
      const region = decoding.regionAt(address);
      if (region === undefined) return { type: 'unknown-pagefault', ...common };
      return { type: 'pagefault', ...common, region, page: region.pageOf(address) };
    }
    case EventKind.fork:
      return { type: 'fork', userfaultfd: decoding.adoptChild(bytes.getUint32(offset + 8, true)) };
    case EventKind.remap:
      return { type: 'remap', from: word(0), to: word(1), lengthBytes: word(2) };
    case EventKind.remove:
    case EventKind.unmap:
      return { type: event === EventKind.remove ? 'remove' : 'unmap', start: word(0), end: word(1) };
    default:
      return {
        type: 'unknown',
        event,
        bytes: new Uint8Array(bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + offset + MESSAGE_BYTES)),
      };
  }
}
