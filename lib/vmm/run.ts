// A guest from its first instruction to its snapshot, or to its migration.
import { addAbortListener } from 'node:events';
import { UffdError } from '../errors.js';
import { Kvm } from '../kvm/kvm.js';
import type { Mapping } from '../memory/mapping.js';
import { Entry, type GuestWork, Layout, guestProgram } from './guest-program.js';
import { longMode, pageTables, registersAt } from './long-mode.js';
import { Machine } from './machine.js';
import { FORMAT, type GuestState, VERSION } from './manifest.js';
import { GuestMemory } from './memory-kind.js';
import { type MigrateReport, connectDestination, mappedMemory, migrateGuest } from './migrate.js';
import { prepareFolder, writeSnapshot } from './snapshot.js';
import { takeVcpu } from './vcpu-snapshot.js';

/** Page tables are of 2 MiB pages; above 3 GiB x86 machines have no memory. */
export const GRAIN_BYTES = 2 ** 21;
export const MOST_BYTES = 3 * 2 ** 30;
export const MOST_VCPUS = 4;

export interface RunOptions {
  readonly memoryBytes: number;
  /** Folder of the snapshot; or, in place of one, where `uffd vmm receive` listens, for the guest to move to. */
  readonly goal: { readonly snapshot: string } | { readonly to: string };
  /** Default 1. */
  readonly vcpus?: number;
  /** Bytes from one word the guest writes to the next. Default 4,088: every page, each at another place in it. */
  readonly strideBytes?: number;
  readonly onSerial: (text: string) => void;
  readonly signal: AbortSignal;
}

export interface SnapshotReport {
  readonly snapshotMs: number;
  /** Bytes of the memory file that are no hole. */
  readonly writtenBytes: number;
  readonly sha256: string;
}

export interface RunReport {
  readonly memoryBytes: number;
  readonly vcpus: number;
  /** Of the guest: from its first instruction to its asking for the snapshot. */
  readonly fillMs: number;
  /** What became of it. */
  readonly end: SnapshotReport | MigrateReport;
}

export const DEFAULT_STRIDE = 4088;

/** @throws UffdError ERR_GUEST_FAILED, ERR_OUT_OF_RANGE; KernelError with the remedy when there is no KVM */
export async function runGuest(options: RunOptions): Promise<RunReport> {
  const { memoryBytes, goal, vcpus = 1, strideBytes = DEFAULT_STRIDE, signal } = options;
  checkSize(memoryBytes);
  if (vcpus < 1 || vcpus > MOST_VCPUS) throw new UffdError('ERR_OUT_OF_RANGE', `1 to ${MOST_VCPUS} vCPUs`);
  if (strideBytes < 8 || strideBytes % 8 !== 0) throw new UffdError('ERR_OUT_OF_RANGE', 'a stride is a multiple of 8');
  using kvm = Kvm.open();
  // Before there is a guest that would have no place to go to.
  using ending = 'snapshot' in goal ? snapshotIn(goal.snapshot, signal) : await moveTo(goal.to, signal);
  await using vm = kvm.createVm();
  using memory = GuestMemory.memfd(memoryBytes);
  await memory.mapping.write(Layout.pageTables, pageTables(memoryBytes));
  await memory.mapping.write(Layout.code, guestProgram);
  vm.setMemory(memory.slot());
  const machine = new Machine(kvm, vm, { vcpus, onSerial: options.onSerial });
  const work: GuestWork = { start: Layout.data, end: memoryBytes, strideBytes };
  for (const vcpu of machine.vcpus) {
    vcpu.specialRegisters = longMode(vcpu.specialRegisters);
    vcpu.registers = registersAt(Entry.fill, vcpu.id, work);
  }
  const began = performance.now();
  await runUnlessStopped(machine, signal);
  const fillMs = performance.now() - began;
  const indices = kvm.msrIndices();
  const states = machine.vcpus.map((vcpu) => takeVcpu(vcpu, indices));
  const guest = { format: FORMAT, version: VERSION, architecture: 'x64', work, vcpus: states } as const;
  return { memoryBytes, vcpus, fillMs, end: await ending.take(guest, memory.mapping) };
}

async function runUnlessStopped(machine: Machine, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const listener = addAbortListener(signal, () => {
    machine.stop(signal.reason as Error).catch(() => undefined);
  });
  try {
    await machine.run();
  } finally {
    listener[Symbol.dispose]();
  }
}

/** What becomes of a guest that has filled its memory. */
interface Ending extends Disposable {
  take(guest: Omit<GuestState, 'memory'>, mapping: Mapping): Promise<RunReport['end']>;
}

function snapshotIn(folder: string, signal: AbortSignal): Ending {
  prepareFolder(folder);
  return {
    async take(guest, mapping) {
      const began = performance.now();
      const written = await writeSnapshot(folder, mapping, guest, signal);
      return { ...written, snapshotMs: performance.now() - began };
    },
    [Symbol.dispose]: () => undefined,
  };
}

async function moveTo(path: string, signal: AbortSignal): Promise<Ending> {
  const to = await connectDestination(path);
  return {
    take: (rest, mapping) =>
      migrateGuest({
        guest: { ...rest, memory: { sizeBytes: mapping.lengthBytes } },
        memory: mappedMemory(mapping),
        to,
        signal,
      }),
    [Symbol.dispose]: () => void to.destroy(),
  };
}

function checkSize(memoryBytes: number): void {
  if (memoryBytes >= 2 * GRAIN_BYTES && memoryBytes <= MOST_BYTES && memoryBytes % GRAIN_BYTES === 0) return;
  throw new UffdError('ERR_OUT_OF_RANGE', `memory is 4M to 3G, in steps of 2M; not ${memoryBytes} bytes`);
}
