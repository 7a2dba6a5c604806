// Memory of this process in the care of a server in it: the smallest client.
import { type TestContext, onTestFinished } from 'vitest';
import {
  FaultServer,
  type FaultServerOptions,
  type FeatureName,
  type GuestMemfd,
  Kvm,
  Mapping,
  Memfd,
  type PageSource,
  type RegisterModeName,
  type Region,
  type SourceSpec,
  Userfaultfd,
  moduleSource,
} from 'userfaultfd';
import { deadline } from '../support/deadline.js';
import { type Capability, requires } from '../support/requires.js';

export const PAGE = 4096;

export type MemoryName = 'shmem' | 'guest_memfd' | 'anonymous';
type Modes = readonly RegisterModeName[];

/** Every kind of memory of small pages that a server can be given, and what it can be registered for. */
export const memories: readonly { readonly kind: MemoryName; readonly modes: Modes }[] = [
  { kind: 'anonymous', modes: ['missing'] },
  { kind: 'shmem', modes: ['missing'] },
  { kind: 'shmem', modes: ['missing', 'minor'] },
  { kind: 'guest_memfd', modes: ['missing'] },
  { kind: 'guest_memfd', modes: ['missing', 'minor'] },
];

/** Those of them that are files, whose pages can be there without being mapped. */
export const files = ['shmem', 'guest_memfd'] as const;

export function requiresMemory(context: Pick<TestContext, 'skip'>, kind: MemoryName, ...more: Capability[]): void {
  requires(context, ...(kind === 'guest_memfd' ? (['guest-memfd-uffd'] as const) : []), ...more);
}

export class Client implements Disposable {
  readonly kind: MemoryName;
  readonly file: Memfd | GuestMemfd | undefined;
  readonly mapping: Mapping;
  readonly userfaultfd: Userfaultfd;
  readonly region: Region;
  session = 0;

  constructor(
    pages: number,
    kind: MemoryName = 'shmem',
    { features = [], modes }: { readonly features?: readonly FeatureName[]; readonly modes?: Modes } = {},
  ) {
    const sizeBytes = pages * PAGE;
    this.kind = kind;
    this.file = fileOf(kind, sizeBytes);
    this.mapping = this.file === undefined ? Mapping.anonymous(sizeBytes) : Mapping.map(this.file);
    this.userfaultfd = Userfaultfd.open({ features });
    const all: Modes = this.file === undefined ? ['missing'] : ['missing', 'minor'];
    this.region = this.userfaultfd.register(this.mapping, modes ?? all);
  }

  async attach(server: FaultServer, resident = false): Promise<this> {
    const { kind, userfaultfd, file, mapping } = this;
    this.session = await server.attach({
      userfaultfd,
      ...(file !== undefined && { memory: file }),
      kind,
      pageSize: PAGE,
      regions: [{ start: mapping.address, size: mapping.lengthBytes, offset: 0 }],
      resident,
    });
    return this;
  }

  /** Puts bytes into the file's page cache, past the userfaultfd. */
  async cache(offset: number, bytes: Buffer): Promise<void> {
    using alias = Mapping.map(this.file!);
    await alias.write(offset, bytes);
  }

  /** First byte of each of the pages, read through the faulting mapping. */
  async read(first: number, pages = 1): Promise<number[]> {
    const bytes = await this.mapping.read(first * PAGE, pages * PAGE, { signal: deadline(5000) });
    return Array.from({ length: pages }, (_, page) => {
      const [value = -1, ...rest] = new Set(bytes.subarray(page * PAGE, (page + 1) * PAGE));
      if (rest.length > 0) throw new Error(`page ${first + page} is a mixture`);
      return value;
    });
  }

  [Symbol.dispose](): void {
    this.userfaultfd.close();
    this.mapping.unmap();
    this.file?.close();
  }
}

function fileOf(kind: MemoryName, sizeBytes: number): Memfd | GuestMemfd | undefined {
  if (kind === 'anonymous') return undefined;
  if (kind === 'guest_memfd') {
    using kvm = Kvm.open();
    const vm = kvm.createVm();
    onTestFinished(() => vm.close());
    return vm.createGuestMemfd({ sizeBytes, flags: ['mmap', 'initShared'] });
  }
  const memfd = Memfd.create({ sizeBytes });
  memfd.addSeals('shrink');
  return memfd;
}

export const patternOf = (page: number) => (page % 250) + 1;
export const patterns = (first: number, pages: number) => Array.from({ length: pages }, (_, i) => patternOf(first + i));

/** A server that ends with the test; one page per answer unless the test says otherwise. */
export async function serverOf(
  options: Partial<FaultServerOptions> & Pick<FaultServerOptions, 'source'>,
): Promise<FaultServer> {
  const server = await FaultServer.start({ faultAround: 1, ...options });
  onTestFinished(() => server.close());
  return server;
}

/** A source of the pattern that takes its time. */
export function slow(delayMs: number, sizeBytes: number): SourceSpec {
  return moduleSource(
    { module: new URL('./slow-source.mjs', import.meta.url), data: { sizeBytes, delayMs } },
    { sizeBytes, runsIn: 'both' },
  );
}

/** An object source of the pattern that counts how often each page is read. */
export function counting(delayMs = 0): PageSource & { reads: Map<number, number> } {
  const reads = new Map<number, number>();
  return {
    reads,
    async read(target, targetOffset, length, offset) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      for (let i = 0; i < length; i += PAGE) {
        const page = (offset + i) / PAGE;
        reads.set(page, (reads.get(page) ?? 0) + 1);
        target.fill(patternOf(page), targetOffset + i, targetOffset + i + PAGE);
      }
    },
  };
}

/** An object source of the pattern whose pages from that one on come once it is opened, however long that takes. */
export function gated(from: number): PageSource & { asked: Promise<AbortSignal | undefined>; open(): void } {
  let open!: () => void;
  let ask!: (signal: AbortSignal | undefined) => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const asked = new Promise<AbortSignal | undefined>((resolve) => (ask = resolve));
  return {
    open,
    asked,
    async read(target, targetOffset, length, offset, signal) {
      if (offset + length > from * PAGE) {
        ask(signal);
        await opened;
      }
      for (let i = 0; i < length; i += PAGE)
        target.fill(patternOf((offset + i) / PAGE), targetOffset + i, targetOffset + i + PAGE);
    },
  };
}
