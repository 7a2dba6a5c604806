// The guest touched a page that cannot be had. Never answered with bytes: the VM is over.
import { UffdError } from '../errors.js';

export class GuestMemoryError extends UffdError {
  readonly vcpu: number;
  /** Guest physical address. */
  readonly address: number;
  readonly slot: number;
  /** Page of the slot. */
  readonly page: number;

  constructor(vcpu: number, address: number, at: { slot: number; page: number } | undefined, why: string) {
    const { slot = -1, page = -1 } = at ?? {};
    super(
      'ERR_GUEST_MEMORY',
      `guest memory at 0x${address.toString(16)} cannot be had (page ${page} of slot ${slot}, vCPU ${vcpu}): ${why}`,
    );
    this.vcpu = vcpu;
    this.address = address;
    this.slot = slot;
    this.page = page;
  }
}
