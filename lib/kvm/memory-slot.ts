// A memory slot: which guest addresses are which memory of this process.
import { UffdError } from '../errors.js';
import type { Mapping } from '../memory/mapping.js';
import { pageSize } from '../memory/page-size.js';
import type { GuestMemfd } from './guest-memfd.js';

/** Guest physical memory: KVM_SET_USER_MEMORY_REGION and REGION2. */
export interface MemorySlot {
  readonly slot: number;
  /** Guest physical address, whole pages. */
  readonly address: number;
  readonly lengthBytes: number;
  /**
   * Where the guest's accesses go: a fault of it is a fault of this mapping. Needed unless the slot is of a guest_memfd; then
   * it is where KVM itself reads and writes, and an emulating KVM all of the guest.
   */
  readonly mapping?: Mapping;
  readonly mappingOffset?: number;
  /** The guest's accesses go here, past any userfaultfd (KVM_MEM_GUEST_MEMFD). */
  readonly guestMemfd?: { readonly file: GuestMemfd; readonly offset: number };
  /** A write of the guest is a failure of the memory: `run` rejects with `GuestMemoryError`. */
  readonly readonly?: boolean;
  readonly logDirty?: boolean;
}

const Flag = { logDirty: 1, readonly: 2, guestMemfd: 4 } as const;

export function slotFlags({ guestMemfd, readonly, logDirty }: MemorySlot): number {
  return (
    (logDirty === true ? Flag.logDirty : 0) |
    (readonly === true ? Flag.readonly : 0) |
    (guestMemfd === undefined ? 0 : Flag.guestMemfd)
  );
}

/** What KVM_SET_USER_MEMORY_REGION says no to, in words. */
export function slotDetail({ slot, guestMemfd, readonly, logDirty }: MemorySlot): string {
  if (guestMemfd === undefined) return `slot ${slot}`;
  if (readonly === true || logDirty === true) {
    return `slot ${slot}: a slot of guest_memfd can be neither read-only nor logged`;
  }
  return `slot ${slot}: a slot of guest_memfd is removed and set anew, and its file is of this VM and bound once`;
}

/**
 * Everything KVM would find wrong, and what it does not: Linux 6.18 accepts a guest_memfd offset that overflows.
 * @throws UffdError ERR_OUT_OF_RANGE, ERR_INVALID_ARGUMENT
 */
export function checkSlot(slot: MemorySlot, old: MemorySlot | undefined): void {
  const { slot: number, address, lengthBytes, mapping, mappingOffset = 0, guestMemfd } = slot;
  const page = pageSize();
  const wrong = (what: string) => new UffdError('ERR_OUT_OF_RANGE', `slot ${number}: ${what}`);
  const pages = (bytes: number) => Number.isSafeInteger(bytes) && bytes >= 0 && bytes % page === 0;
  if (!Number.isSafeInteger(number) || number < 0) throw wrong('a slot is a small whole number');
  if (!pages(address) || !pages(lengthBytes) || lengthBytes === 0) throw wrong('address and length are whole pages');
  if (mapping === undefined && guestMemfd === undefined) {
    throw new UffdError('ERR_INVALID_ARGUMENT', `slot ${number}: needs a mapping, or a guest_memfd`);
  }
  if (mapping !== undefined && (!pages(mappingOffset) || mappingOffset + lengthBytes > mapping.lengthBytes)) {
    throw wrong(`${lengthBytes} bytes at ${mappingOffset} are not in the mapping of ${mapping.lengthBytes} bytes`);
  }
  if (guestMemfd !== undefined) {
    const { file, offset } = guestMemfd;
    if (!pages(offset) || offset + lengthBytes > file.sizeBytes) {
      throw wrong(`${lengthBytes} bytes at ${offset} are not in the guest_memfd of ${file.sizeBytes} bytes`);
    }
  }
  if (old !== undefined && old.lengthBytes !== lengthBytes) throw wrong('a slot cannot be resized: remove it first');
}
