// A guest from its snapshot to the end of its work: with its memory read at once, or page by page when it touches it.
import { UffdError } from '../errors.js';
import { Kvm } from '../kvm/kvm.js';
import { type GuestWaits, Machine } from './machine.js';
import { GuestMemory, type GuestMemoryKind, type LazyMode } from './memory-kind.js';
import { presentPages } from './poison.js';
import { MOST_VCPUS } from './run.js';
import { ClosingVm, ServedMemory, putVcpus, runServed } from './served-guest.js';
import { type OpenedSnapshot, loadMemory } from './snapshot.js';

export interface RestoreOptions {
  readonly snapshot: OpenedSnapshot;
  /** Where a fault server listens that serves the snapshot's memory file; without it all of it is read first. */
  readonly socket?: string;
  /** Default `memfd`. */
  readonly memoryKind?: GuestMemoryKind;
  /** Default `minor` where the kind has it. */
  readonly mode?: LazyMode;
  /** How many vCPUs share the rest of the work. Default: as many as the snapshot has. */
  readonly vcpus?: number;
  readonly onSerial: (text: string) => void;
  readonly signal: AbortSignal;
}

export interface RestoreReport extends GuestWaits {
  readonly vcpus: number;
  readonly memoryBytes: number;
  /** From the opened snapshot, with the server listening, to the first KVM_RUN. */
  readonly toFirstRunMs: number;
  /** From there to the guest's checksum. */
  readonly toChecksumMs: number;
  readonly pages: number;
  /** Pages that came from the server, because of a fault or with one; all of them when the memory was read at once. */
  readonly pagesServed: number;
  readonly pagesNeverTouched: number;
  /** Mean wait of the guest for one fault. */
  readonly latencyUs: number;
}

/**
 * Restores, and runs the guest until it has verified its memory.
 * @throws UffdError ERR_SERVER_GONE as soon as the fault server is gone: the guest has been stopped then, and has not read
 *   anything in the place of what is missing; ERR_GUEST_MEMORY, ERR_GUEST_FAILED
 */
export async function restoreGuest(options: RestoreOptions): Promise<RestoreReport> {
  const { snapshot, socket, memoryKind = 'memfd', signal } = options;
  const { manifest } = snapshot;
  const { vcpus = manifest.vcpus.length } = options;
  if (vcpus < 1 || vcpus > MOST_VCPUS) throw new UffdError('ERR_OUT_OF_RANGE', `1 to ${MOST_VCPUS} vCPUs`);
  const began = performance.now();
  // Closed in the opposite order of their making: the userfaultfd after the vCPUs, which would else read zeroes.
  using kvm = Kvm.open();
  using served = new ServedMemory();
  await using closing = new ClosingVm(kvm.createVm(), served);
  const { vm } = closing;
  using memory = GuestMemory.create(memoryKind, manifest.memory.sizeBytes, vm);
  if (socket === undefined) await loadMemory(snapshot, memory.mapping, signal);
  else await served.handOver(socket, memory, options.mode, signal);
  vm.setMemory(memory.slot());
  const machine = new Machine(kvm, vm, { vcpus, onSerial: options.onSerial });
  putVcpus(machine, manifest);
  const firstRun = performance.now();
  await runServed(machine, served, signal);
  const done = performance.now();
  const { pages } = served.region ?? { pages: memory.mapping.lengthBytes / memory.mapping.pageSize };
  const pagesServed = served.region === undefined ? pages : presentPages(served.region);
  const waits = machine.waits();
  return {
    vcpus,
    memoryBytes: memory.mapping.lengthBytes,
    toFirstRunMs: firstRun - began,
    toChecksumMs: done - firstRun,
    pages,
    pagesServed,
    pagesNeverTouched: pages - pagesServed,
    latencyUs: waits.faults === 0 ? 0 : (waits.waitedMs * 1000) / waits.faults,
    ...waits,
  };
}
