// The memory kinds every case runs on, as the kernel's own suites name them.
import { beforeEach, onTestFinished } from 'vitest';
import { Kvm, Mapping, Memfd, type RegisterModeName, type Region, type Userfaultfd } from '../../dist/index.js';
import type { FeatureName, GuestMemfd } from '../../dist/index.js';
import { HUGE, reserveHugePages } from '../support/huge-pages.js';
import { PAGE, userfaultfd } from '../support/memory.js';
import { type Capability, requires } from '../support/requires.js';
import type { PuppetMemory } from './puppet.js';

export interface Memory {
  readonly name: PuppetMemory | 'guest_memfd';
  readonly pageSize: number;
  /** Has a page cache, so that a page can be there without being mapped. */
  readonly minor: boolean;
  /** What is written through another mapping is seen. */
  readonly shared: boolean;
  readonly huge: boolean;
  /** Can be registered for WP. */
  readonly wp: boolean;
  readonly needs: readonly Capability[];
}

function memory<Name extends Memory['name']>(name: Name, more: Partial<Memory> = {}): Memory & { readonly name: Name } {
  const plain = { pageSize: PAGE, minor: true, shared: false, huge: false, wp: true, needs: ['uffd'] } as const;
  return { ...plain, ...more, name };
}
const huge: Partial<Memory> = { pageSize: HUGE, huge: true, needs: ['uffd', 'root', 'hugetlb-2M'] };

/** What another process can have too. */
export const memories: readonly (Memory & { readonly name: PuppetMemory })[] = [
  memory('anon', { minor: false }),
  memory('shmem', { shared: true }),
  memory('shmem-private'),
  memory('hugetlb', { ...huge, shared: true }),
  memory('hugetlb-private', huge),
];

/** And what the kernel's suites do not have: it behaves as shared memory does, where it can be registered at all. */
export const ownMemories: readonly Memory[] = [
  ...memories,
  memory('guest_memfd', { shared: true, wp: false, needs: ['uffd', 'guest-memfd-uffd'] }),
];

/** In a suite: its tests are skipped where the machine lacks what the memory needs, or something else that is named. */
export function needsOf(memory: Memory, ...more: Capability[]): void {
  const noHugePages = memory.huge ? reserveHugePages(16) : () => undefined;
  beforeEach((context) => {
    requires(context, ...memory.needs, ...more);
    const why = noHugePages();
    if (why !== undefined) context.skip(`hugetlb-2M: ${why}`);
  });
}

/** Whether every byte has that value: of huge pages a comparison by `toEqual` takes seconds. */
export function isFilled(bytes: Buffer, value: number): boolean {
  return bytes.equals(Buffer.alloc(bytes.length, value));
}

export interface Case {
  readonly uffd: Userfaultfd;
  readonly mapping: Mapping;
  readonly region: Region;
  /** What is behind the mapping: its page cache. */
  readonly memfd: Memfd | GuestMemfd | undefined;
  /** Puts a page into the page cache, filled with a value, without mapping it. */
  readonly cache: (page: number, value: number) => Promise<void>;
}

/** Memory of a kind, registered; given back when the test ends. */
export function prepare(
  memory: Memory,
  pages: number,
  modes: readonly RegisterModeName[],
  features: readonly FeatureName[] = [],
): Case {
  const { pageSize, shared } = memory;
  const memfd = behind(memory, pages * pageSize);
  const mapping =
    memfd === undefined ? Mapping.anonymous(pages * pageSize) : Mapping.map(memfd, { shared, noReserve: true });
  // Where huge pages are transparent without being asked for, a touch before registration would bring neighbours too.
  if (memfd === undefined) mapping.advise('noHugePage');
  onTestFinished(() => {
    mapping.unmap();
    memfd?.close();
  });
  const uffd = userfaultfd(features);
  const region = uffd.register(mapping, modes);
  const cache = async (page: number, value: number) => {
    using alias = Mapping.map(memfd!, { noReserve: true });
    await alias.write(page * pageSize, Buffer.alloc(pageSize, value));
  };
  return { uffd, mapping, region, memfd, cache };
}

function behind({ name, huge: isHuge }: Memory, sizeBytes: number): Memfd | GuestMemfd | undefined {
  if (name === 'anon') return undefined;
  if (name !== 'guest_memfd') return Memfd.create({ sizeBytes, name: 'conformance', ...(isHuge && { hugetlb: '2M' }) });
  using kvm = Kvm.open();
  const vm = kvm.createVm();
  onTestFinished(() => vm.close());
  return vm.createGuestMemfd({ sizeBytes, flags: ['mmap', 'initShared'] });
}
