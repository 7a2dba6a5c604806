// A VM under examination: its ioctls with their raw results, nothing refused beforehand.
import type { Mapping } from '../memory/mapping.js';
import { openPath, outcomeName } from './kernel.js';
import { NotThere } from './probe.js';
import type { Scene } from './scene.js';

/** KVM's own numbers (linux/kvm.h). */
const Ioctl = {
  createVm: 0xae01,
  checkExtension: 0xae03,
  createIrqchip: 0xae60,
  setMemoryAttributes: 0x4020aed2,
  createGuestMemfd: 0xc040aed4,
  setUserMemoryRegion2: 0x40a0ae49,
} as const;

export const GuestMemfdFlags = { none: 0n, mmap: 1n, initShared: 2n, mmapAndInitShared: 3n } as const;
const EINTR = -4;
const MEM_LOG_DIRTY = 1;
const MEM_GUEST_MEMFD = 4;
const ATTRIBUTE_PRIVATE = 8n;

/** A kvm_create_guest_memfd: size, flags, six reserved. */
const CREATE_WORDS = 8;
/** A kvm_userspace_memory_region2. */
const REGION_WORDS = 20;

/** Where guest memory comes from, in whole pages. */
export interface SlotParts {
  readonly slot?: number;
  readonly address?: number;
  readonly pages: number;
  readonly guestMemfd: number;
  readonly offset?: bigint;
  readonly logDirty?: boolean;
}

/** /dev/kvm, closed at the end of the probe. @throws NotThere */
export function openKvm(scene: Scene): number {
  const system = scene.descriptor(openPath(scene.kernel, '/dev/kvm', true));
  if (system < 0) throw new NotThere({ seen: outcomeName(system) }, '/dev/kvm');
  return system;
}

/** KVM_CHECK_EXTENSION: 0 is no. */
export function capabilityOf(scene: Scene, system: number, capability: number): number {
  return scene.call('ioctl', system, Ioctl.checkExtension, capability);
}

export class VmSubject {
  readonly #scene: Scene;
  readonly fd: number;

  private constructor(scene: Scene, fd: number) {
    this.#scene = scene;
    this.fd = fd;
  }

  /** Closed at the end of the probe. @throws NotThere */
  static create(scene: Scene, type = 0): VmSubject {
    const system = openKvm(scene);
    let fd: number;
    // A signal to the process ends it before anything is made.
    do fd = scene.call('ioctl', system, Ioctl.createVm, type);
    while (fd === EINTR);
    scene.descriptor(fd);
    if (fd < 0) throw new NotThere({ seen: outcomeName(fd) }, 'KVM_CREATE_VM');
    return new VmSubject(scene, fd);
  }

  /** The descriptor, closed at the end of the probe, or a negative errno. */
  tryGuestMemfd(sizeBytes: number, flags: bigint): number {
    const request = new BigUint64Array(CREATE_WORDS);
    request.set([BigInt(sizeBytes), flags]);
    return this.#scene.descriptor(this.#scene.call('ioctl', this.fd, Ioctl.createGuestMemfd, request));
  }

  /** For what another probe asks about. @throws NotThere */
  guestMemfd(pages: number, flags: bigint): number {
    const fd = this.tryGuestMemfd(pages * this.#scene.page, flags);
    if (fd >= 0) return fd;
    const what = flags === GuestMemfdFlags.none ? 'guest_memfd (Linux 6.8)' : 'a guest_memfd to map (Linux 6.18)';
    throw new NotThere({ seen: outcomeName(fd) }, what);
  }

  /** KVM_SET_USER_MEMORY_REGION2 with a guest_memfd; 0 pages take the slot away. */
  setSlot(parts: SlotParts, behind?: Mapping): number {
    const { slot = 0, address = 0, pages, guestMemfd, offset = 0n, logDirty = false } = parts;
    const flags = MEM_GUEST_MEMFD | (logDirty ? MEM_LOG_DIRTY : 0);
    const region = new BigUint64Array(REGION_WORDS);
    const words = [address, pages * this.#scene.page, Number(behind?.address ?? 0)].map(BigInt);
    region.set([BigInt(slot) | (BigInt(flags) << 32n), ...words, offset, BigInt(guestMemfd)]);
    return this.#scene.call('ioctl', this.fd, Ioctl.setUserMemoryRegion2, region);
  }

  /** KVM_SET_MEMORY_ATTRIBUTES: makes the first pages private. */
  makePrivate(pages: number): number {
    const request = BigUint64Array.of(0n, BigInt(pages * this.#scene.page), ATTRIBUTE_PRIVATE, 0n);
    return this.#scene.call('ioctl', this.fd, Ioctl.setMemoryAttributes, request);
  }

  /** Before the first vCPU. @throws NotThere */
  createIrqchip(): void {
    const created = this.#scene.call('ioctl', this.fd, Ioctl.createIrqchip, 0);
    if (created < 0) throw new NotThere({ seen: outcomeName(created) }, 'KVM_CREATE_IRQCHIP');
  }
}
