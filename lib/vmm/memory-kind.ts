// The memory of a guest, of each kind that can be served.
import { KernelError, UffdError } from '../errors.js';
import type { GuestMemfd } from '../kvm/guest-memfd.js';
import type { MemorySlot } from '../kvm/memory-slot.js';
import type { Vm } from '../kvm/vm.js';
import { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import type { RegisterModeName } from '../memory/kinds/kind.js';
import type { Region } from '../userfaultfd/region.js';
import type { Userfaultfd } from '../userfaultfd/userfaultfd.js';

/**
 * - `memfd`: shared memory. - `anon`: private memory. - `hugetlb`: a memfd of 2 MiB pages. - `guest_memfd`: the guest's
 * accesses go through a mapping of it; registering it needs a kernel that can, mainline up to 7.3 cannot.
 */
export type GuestMemoryKind = 'memfd' | 'anon' | 'hugetlb' | 'guest_memfd';

/**
 * How missing pages come: `minor` by writing them into the memory's file and showing them (UFFDIO_CONTINUE), `missing` by
 * UFFDIO_COPY.
 */
export type LazyMode = 'minor' | 'missing';

export class GuestMemory implements Disposable {
  readonly kind: GuestMemoryKind;
  readonly mapping: Mapping;
  /** What is handed to the fault server beside the userfaultfd. */
  readonly file: Memfd | GuestMemfd | undefined;
  readonly #register: (userfaultfd: Userfaultfd, modes: readonly RegisterModeName[]) => Region;

  private constructor(
    kind: GuestMemoryKind,
    mapping: Mapping,
    file?: Memfd | GuestMemfd,
    register?: GuestMemory['register'],
  ) {
    this.kind = kind;
    this.mapping = mapping;
    this.file = file;
    this.#register = register ?? ((userfaultfd, modes) => userfaultfd.register(mapping, modes));
  }

  /** @throws KernelError ENOMEM for hugetlb with too small a pool */
  static create(kind: GuestMemoryKind, sizeBytes: number, vm: Vm): GuestMemory {
    switch (kind) {
      case 'anon':
        return new GuestMemory(kind, Mapping.anonymous(sizeBytes));
      case 'guest_memfd': {
        const file = vm.createGuestMemfd({ sizeBytes, flags: ['mmap', 'initShared'] });
        const mapping = file.map();
        const register: GuestMemory['register'] = (userfaultfd, modes) => file.register(userfaultfd, mapping, modes);
        return new GuestMemory(kind, mapping, file, register);
      }
      case 'memfd':
        return GuestMemory.#ofMemfd(kind, Memfd.create({ sizeBytes, name: 'guest' }));
      case 'hugetlb':
        return GuestMemory.#ofMemfd(kind, Memfd.create({ sizeBytes, name: 'guest', hugetlb: '2M' }));
    }
  }

  static #ofMemfd(kind: GuestMemoryKind, memfd: Memfd): GuestMemory {
    try {
      return new GuestMemory(kind, Mapping.map(memfd), memfd);
    } catch (error) {
      memfd.close();
      if (kind !== 'hugetlb' || !(error instanceof KernelError)) throw error;
      throw new KernelError(error.errno, 'mmap', 'too few free huge pages of 2 MiB: see sysctl vm.nr_hugepages');
    }
  }

  /** The one slot of the machine, from address 0 on. */
  slot(): MemorySlot {
    return { slot: 0, address: 0, lengthBytes: this.mapping.lengthBytes, mapping: this.mapping };
  }

  /** @throws UffdError ERR_INVALID_ARGUMENT for a mode this kind does not have, ERR_GUEST_MEMFD_REGISTRATION */
  register(userfaultfd: Userfaultfd, modes: readonly RegisterModeName[]): Region {
    return this.#register(userfaultfd, modes);
  }

  /** The mapping lives on in the VM's slot until the vCPUs are gone. */
  close(): void {
    this.mapping.detachViews();
    this.mapping.unmap();
    this.file?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What a mode registers. @throws UffdError ERR_INVALID_ARGUMENT */
export function registerModes(kind: GuestMemoryKind, mode: LazyMode): RegisterModeName[] {
  if (mode === 'missing') return ['missing'];
  if (kind !== 'anon') return ['missing', 'minor'];
  throw new UffdError(
    'ERR_INVALID_ARGUMENT',
    `${kind} memory has no minor faults that another process can serve: use missing`,
  );
}
