// Memory under a userfaultfd for one test; given back when the test ends, which also wakes every thread that waits.
import { readFileSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import { type FaultEvent, Mapping, Memfd, type Region, Userfaultfd, pageSize } from '../../dist/index.js';
import type { FeatureName, MapOptions, PageFault, RegisterModeName } from '../../dist/index.js';
import { deadline } from './deadline.js';

export const PAGE = pageSize();

/** `bytes` bytes of one value. */
export function filled(value: number | string, bytes = PAGE): Buffer {
  return Buffer.alloc(bytes, value);
}

export function memfdOf(pages: number, name = 'test'): Memfd {
  const memfd = Memfd.create({ sizeBytes: pages * PAGE, name });
  onTestFinished(() => {
    memfd.close();
  });
  return memfd;
}

export function mappingOf(memfd: Memfd, options?: MapOptions): Mapping {
  const mapping = Mapping.map(memfd, options);
  onTestFinished(() => {
    mapping.unmap();
  });
  return mapping;
}

export function anonymousMapping(pages: number, options?: Parameters<typeof Mapping.anonymous>[1]): Mapping {
  const mapping = Mapping.anonymous(pages * PAGE, options);
  // Where huge pages are transparent without being asked for, a touch before registration would bring neighbours too.
  if (options?.shared !== true) mapping.advise('noHugePage');
  onTestFinished(() => {
    mapping.unmap();
  });
  return mapping;
}

export function userfaultfd(features: readonly FeatureName[] = []): Userfaultfd {
  const uffd = Userfaultfd.open({ features });
  onTestFinished(() => {
    uffd.close();
  });
  return uffd;
}

export interface Setup {
  readonly memfd: Memfd;
  readonly mapping: Mapping;
  readonly uffd: Userfaultfd;
  readonly region: Region;
}

/** A memfd, mapped and registered. */
export function registeredMemfd(
  pages: number,
  options: { modes?: RegisterModeName[]; features?: FeatureName[]; map?: MapOptions } = {},
): Setup {
  const { modes = ['missing', 'minor'], features = [], map } = options;
  const memfd = memfdOf(pages);
  const mapping = mappingOf(memfd, map);
  const uffd = userfaultfd(features);
  return { memfd, mapping, uffd, region: uffd.register(mapping, modes) };
}

/** Private anonymous memory, registered. */
export function registeredAnonymous(pages: number, features: FeatureName[] = []): Omit<Setup, 'memfd'> {
  const mapping = anonymousMapping(pages);
  const uffd = userfaultfd(features);
  return { mapping, uffd, region: uffd.register(mapping, ['missing']) };
}

/** The next event; those after it stay with the userfaultfd. */
export async function nextEvent(uffd: Userfaultfd, signal = deadline()): Promise<FaultEvent> {
  for await (const event of uffd.events({ signal })) return event;
  throw new Error('the userfaultfd was closed');
}

export async function nextFault(uffd: Userfaultfd, signal?: AbortSignal): Promise<PageFault> {
  const event = await nextEvent(uffd, signal);
  if (event.type !== 'pagefault') throw new Error(`expected a page fault, not ${event.type}`);
  return event;
}

/** Faults nobody has read yet, as the kernel says. */
export function pendingFaults(uffd: Userfaultfd): number {
  const info = readFileSync(`/proc/self/fdinfo/${uffd.fd}`, 'utf8');
  return Number(/^pending:\s+(\d+)/m.exec(info)?.[1]);
}
