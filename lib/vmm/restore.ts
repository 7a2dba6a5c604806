// A guest from its snapshot to the end of its work: with its memory read at once, or page by page when it touches it.
import { UffdError } from '../errors.js';
import { Kvm } from '../kvm/kvm.js';
import type { Vm } from '../kvm/vm.js';
import { type Handoff, handOff } from '../transports/hand-off.js';
import type { Region } from '../userfaultfd/region.js';
import { Userfaultfd } from '../userfaultfd/userfaultfd.js';
import { Entry } from './guest-program.js';
import { registersAt } from './long-mode.js';
import { type GuestWaits, Machine } from './machine.js';
import { GuestMemory, type GuestMemoryKind, type LazyMode, registerModes } from './memory-kind.js';
import { poisonAbsent, presentPages } from './poison.js';
import { MOST_VCPUS } from './run.js';
import { type OpenedSnapshot, loadMemory } from './snapshot.js';
import { putVcpu } from './vcpu-snapshot.js';

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

/** How long vCPUs may take to stand when the server has gone. */
const STOP_MS = 300;

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
  using served = new Served();
  await using vm = new Stopping(kvm.createVm(), served);
  using memory = GuestMemory.create(memoryKind, manifest.memory.sizeBytes, vm.vm);
  if (socket === undefined) loadMemory(snapshot.memoryPath, memory.mapping);
  else await served.start(socket, memory, options.mode, signal);
  vm.vm.setMemory(memory.slot());
  const machine = new Machine(kvm, vm.vm, { vcpus, onSerial: options.onSerial });
  putVcpus(machine, options);
  const firstRun = performance.now();
  await runWatched(machine, served, signal);
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

/** The userfaultfd and the handoff of memory that is served; nothing of memory that is not. */
class Served implements Disposable {
  #userfaultfd: Userfaultfd | undefined;
  #handoff: Handoff | undefined;
  region: Region | undefined;

  async start(socket: string, memory: GuestMemory, mode: LazyMode | undefined, signal: AbortSignal): Promise<void> {
    const { kind, mapping, memfd } = memory;
    const modes = registerModes(kind, mode ?? (memfd === undefined ? 'missing' : 'minor'));
    this.#userfaultfd = Userfaultfd.open();
    this.region = memory.register(this.#userfaultfd, modes);
    this.#handoff = await handOff(socket, {
      userfaultfd: this.#userfaultfd,
      ...(memfd !== undefined && { memfd }),
      mappings: [{ mapping, offset: 0 }],
      signal,
    });
  }

  /** Rejects when the server has gone without completing the memory. */
  get done(): Promise<unknown> {
    return this.#handoff?.done ?? Promise.resolve();
  }

  async poison(): Promise<void> {
    if (this.#userfaultfd !== undefined && this.region !== undefined)
      await poisonAbsent(this.#userfaultfd, this.region);
  }

  /** Not while a vCPU waits: it would read zeroes. */
  keepOpen = false;

  [Symbol.dispose](): void {
    this.#handoff?.close();
    if (!this.keepOpen) this.#userfaultfd?.close();
  }
}

/** Closes the VM; one whose vCPUs do not stop is left behind, with the userfaultfd they wait in, for the process's end. */
class Stopping implements AsyncDisposable {
  readonly vm: Vm;
  readonly #served: Served;

  constructor(vm: Vm, served: Served) {
    this.vm = vm;
    this.#served = served;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.vm.close(STOP_MS);
    } catch (error) {
      // What made it end says more, and is what is thrown.
      if (!(error instanceof UffdError) || error.code !== 'ERR_VCPU_STUCK') throw error;
      this.#served.keepOpen = true;
    }
  }
}

/** Those of the snapshot go on where they were; any more of them begin with verifying. */
function putVcpus(machine: Machine, { snapshot: { manifest } }: RestoreOptions): void {
  const [first] = manifest.vcpus;
  for (const vcpu of machine.vcpus) {
    const state = manifest.vcpus.find(({ id }) => id === vcpu.id);
    putVcpu(vcpu, state ?? first!);
    if (state === undefined) vcpu.registers = registersAt(Entry.verify, vcpu.id, manifest.work);
  }
}

/** Runs the guest; ends it when the server goes, or when `signal` says so. */
async function runWatched(machine: Machine, served: Served, signal: AbortSignal): Promise<void> {
  let stopping: Promise<void> | undefined;
  const stop = (reason: Error) => {
    stopping ??= stopOrLeave(machine, served, reason);
  };
  const aborted = () => {
    stop(signal.reason as Error);
  };
  signal.addEventListener('abort', aborted);
  served.done.catch(stop);
  try {
    signal.throwIfAborted();
    await machine.run();
  } catch (error) {
    // The other vCPUs may wait for pages still.
    stop(error as Error);
    throw error;
  } finally {
    signal.removeEventListener('abort', aborted);
    await stopping;
  }
}

/** A vCPU that does not stop (without UFFDIO_POISON, before Linux 6.6, it may not) must not keep the rest from ending. */
async function stopOrLeave(machine: Machine, served: Served, reason: Error): Promise<void> {
  try {
    await machine.stop(reason, { poison: () => served.poison(), deadlineMs: STOP_MS });
  } catch {
    await machine.vm.close(0).catch(() => undefined);
  }
}
