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

type MemoryFile = Memfd | GuestMemfd | undefined;

export class GuestMemory<File extends MemoryFile = MemoryFile> implements Disposable {
  readonly kind: GuestMemoryKind;
  readonly mapping: Mapping;
  /** What is handed to the fault server beside the userfaultfd. */
  readonly file: File;
  readonly #register: (userfaultfd: Userfaultfd, modes: readonly RegisterModeName[]) => Region;

  private constructor(kind: GuestMemoryKind, mapping: Mapping, file: File, register?: GuestMemory['register']) {
    this.kind = kind;
    this.mapping = mapping;
    this.file = file;
    this.#register = register ?? ((userfaultfd, modes) => userfaultfd.register(mapping, modes));
  }

  /** @throws KernelError ENOMEM for hugetlb with too small a pool */
  static create(kind: GuestMemoryKind, sizeBytes: number, vm: Vm): GuestMemory {
    switch (kind) {
      case 'anon':
        return new GuestMemory(kind, Mapping.anonymous(sizeBytes), undefined);
      case 'guest_memfd': {
        const file = vm.createGuestMemfd({ sizeBytes, flags: ['mmap', 'initShared'] });
        const mapping = mapOrClose(file, () => file.map());
        const register: GuestMemory['register'] = (userfaultfd, modes) => file.register(userfaultfd, mapping, modes);
        return new GuestMemory(kind, mapping, file, register);
      }
      case 'memfd':
        return GuestMemory.memfd(sizeBytes);
      case 'hugetlb':
        return GuestMemory.#hugetlb(sizeBytes);
    }
  }

  /** The one kind that a fault server of this process is given. */
  static memfd(sizeBytes: number): GuestMemory<Memfd> {
    const memfd = Memfd.create({ sizeBytes, name: 'guest' });
    const mapping = mapOrClose(memfd, () => Mapping.map(memfd));
    return new GuestMemory('memfd', mapping, memfd);
  }

  static #hugetlb(sizeBytes: number): GuestMemory<Memfd> {
    const memfd = Memfd.create({ sizeBytes, name: 'guest', hugetlb: '2M' });
    try {
      const mapping = mapOrClose(memfd, () => Mapping.map(memfd));
      return new GuestMemory('hugetlb', mapping, memfd);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
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

/** A file that cannot be mapped is not left open. */
function mapOrClose(file: Memfd | GuestMemfd, map: () => Mapping): Mapping {
  try {
    return map();
  } catch (error) {
    file.close();
    throw error;
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
