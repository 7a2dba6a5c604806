// A guest whose memory is served: the memory's registration, the order of stopping, and the vCPUs of a snapshot.
import { UffdError } from '../errors.js';
import type { Vm } from '../kvm/vm.js';
import type { Memfd } from '../memory/memfd.js';
import type { FaultServer } from '../server/fault-server.js';
import { type Handoff, handOff } from '../transports/hand-off.js';
import type { Region } from '../userfaultfd/region.js';
import { Userfaultfd } from '../userfaultfd/userfaultfd.js';
import { Entry } from './guest-program.js';
import { registersAt } from './long-mode.js';
import type { Machine } from './machine.js';
import type { GuestState } from './manifest.js';
import { type GuestMemory, type LazyMode, registerModes } from './memory-kind.js';
import { poisonAbsent } from './poison.js';
import { putVcpu } from './vcpu-snapshot.js';

/** How long vCPUs may take to stand when their memory will not come. */
const STOP_MS = 300;

/** The userfaultfd and the handoff of memory that is served; nothing of memory that is not. */
export class ServedMemory implements Disposable {
  #userfaultfd: Userfaultfd | undefined;
  #handoff: Handoff | undefined;
  #done: Promise<unknown> = Promise.resolve();
  region: Region | undefined;

  /** Before there is something to register. @throws KernelError with the remedy when it is not permitted */
  open(): Userfaultfd {
    return (this.#userfaultfd ??= Userfaultfd.open());
  }

  /** Registers it and hands it to the fault server at a socket. */
  async handOver(socket: string, memory: GuestMemory, mode: LazyMode | undefined, signal: AbortSignal): Promise<void> {
    const { mapping, file } = memory;
    const userfaultfd = this.#register(memory, mode);
    this.#handoff = await handOff(socket, {
      userfaultfd,
      ...(file !== undefined && { memfd: file }),
      mappings: [{ mapping, offset: 0 }],
      signal,
    });
    this.#done = this.#handoff.done;
  }

  /**
   * Registers it and hands it to a fault server of this process.
   * @param done rejects when the source of the pages has gone
   */
  async attach(server: FaultServer, memory: GuestMemory<Memfd>, done: Promise<unknown>): Promise<void> {
    const { mapping, file } = memory;
    const userfaultfd = this.#register(memory, 'minor');
    file.addSeals('shrink');
    const regions = [{ start: mapping.address, size: mapping.lengthBytes, offset: 0 }];
    await server.attach({ userfaultfd, memory: file, kind: 'shmem', pageSize: mapping.pageSize, regions });
    this.#done = done;
  }

  /** Rejects when absent pages will never come. */
  get done(): Promise<unknown> {
    return this.#done;
  }

  #register(memory: GuestMemory, mode: LazyMode | undefined): Userfaultfd {
    const modes = registerModes(memory.kind, mode ?? (memory.file === undefined ? 'missing' : 'minor'));
    const userfaultfd = this.open();
    this.region = memory.register(userfaultfd, modes);
    return userfaultfd;
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
export class ClosingVm implements AsyncDisposable {
  readonly vm: Vm;
  readonly #served: ServedMemory;

  constructor(vm: Vm, served: ServedMemory) {
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
export function putVcpus(machine: Machine, guest: GuestState): void {
  const [first] = guest.vcpus;
  for (const vcpu of machine.vcpus) {
    const state = guest.vcpus.find(({ id }) => id === vcpu.id);
    putVcpu(vcpu, state ?? first!);
    if (state === undefined) vcpu.registers = registersAt(Entry.verify, vcpu.id, guest.work);
  }
}

/** Runs the guest; ends it when the server goes, or when `signal` says so. */
export async function runServed(machine: Machine, served: ServedMemory, signal: AbortSignal): Promise<void> {
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
async function stopOrLeave(machine: Machine, served: ServedMemory, reason: Error): Promise<void> {
  try {
    await machine.stop(reason, { poison: () => served.poison(), deadlineMs: STOP_MS });
  } catch {
    // It was waited for already. What this comes to is kept: `ClosingVm`, which closes the VM again with a deadline of its
    // own, gets the same rejection at once, and leaves the userfaultfd open.
    await machine.vm.close(0).catch(() => undefined);
  }
}
