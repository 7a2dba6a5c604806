// `uffd bench vcpu`: vCPUs that touch memory, the shape of the kernel's demand_paging_test; served by the server, and by
// the plain C handler, by turns.
import { UffdError } from '../errors.js';
import { Kvm } from '../kvm/kvm.js';
import { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import { pageSize } from '../memory/page-size.js';
import { BenchContext, type Placement, type Size } from './bench-context.js';
import { Cleanup } from './cleanup.js';
import { type Contestant, type Measured, type Times, alternate } from './contestant.js';
import { FaultingMemory, ReferenceHandler, TestedServer } from './handlers.js';
import { comparison, machineFacts, noise } from './report-parts.js';
import type { Comparison, MachineFacts, Noise } from './report.js';
import type { Snapshot } from './snapshot.js';
import { TouchingGuest } from './touching-guest.js';

export interface VcpuTrial {
  readonly name: string;
  readonly mode: 'missing' | 'minor';
  readonly memory: 'anonymous' | 'shmem' | 'hugetlb';
  readonly vcpus: number;
  readonly placement: Placement;
  /** The C handler against itself. */
  readonly control?: true;
}

export interface VcpuComparison extends Comparison {
  /** From the medians: how many pages of its memory the guest gets in a second. */
  readonly pagesPerSecond: { readonly subject: number; readonly reference: number };
}

export interface VcpuReport {
  readonly schema: 1;
  readonly quick: boolean;
  readonly seconds: number;
  readonly comparisons: readonly VcpuComparison[];
  readonly noise: Noise;
  readonly machine: MachineFacts;
}

export interface VcpuBenchOptions {
  readonly quick: boolean;
  readonly only?: RegExp;
  readonly signal: AbortSignal;
  /** Called before each trial. */
  readonly onProgress: (done: number, total: number, name: string) => void;
}

const HUGE_PAGE_BYTES = 2 ** 21;
/** Of one vCPU. */
const BASE_BYTES: Size = { full: 32 * 2 ** 20, quick: 2 * 2 ** 20 };
const HUGE_BYTES: Size = { full: 64 * 2 ** 20, quick: 16 * 2 ** 20 };
const REPETITIONS: Size = { full: 11, quick: 3 };
const CHUNK_BYTES = 2 ** 21;

const where: readonly Pick<VcpuTrial, 'vcpus' | 'placement'>[] = [
  { vcpus: 1, placement: 'one CPU' },
  { vcpus: 1, placement: 'two CPUs' },
  { vcpus: 4, placement: 'unpinned' },
];

function trial(mode: VcpuTrial['mode'], memory: VcpuTrial['memory']): VcpuTrial[] {
  return where.map(({ vcpus, placement }) => {
    const name = `${mode}, ${memory}, ${vcpus} ${vcpus === 1 ? 'vCPU' : 'vCPUs'}, ${placement}`;
    return { name, mode, memory, vcpus, placement };
  });
}

const control = (of: VcpuTrial): VcpuTrial => ({ ...of, control: true });

/** In order of measuring. Private anonymous memory has no minor faults. */
export const vcpuTrials: readonly VcpuTrial[] = [
  ...trial('missing', 'anonymous'),
  ...trial('missing', 'shmem'),
  ...trial('minor', 'shmem'),
  ...trial('minor', 'shmem').slice(0, 2).map(control),
  ...trial('missing', 'hugetlb'),
  ...trial('minor', 'hugetlb'),
];

/** Those to be measured. The control always is. */
function chosenTrials(only: RegExp | undefined): readonly VcpuTrial[] {
  return vcpuTrials.filter((one) => one.control === true || only === undefined || only.test(one.name));
}

/** Free huge pages that a run needs. */
export function hugePagesNeeded({ quick, only }: Pick<VcpuBenchOptions, 'quick' | 'only'>): number {
  const huge = chosenTrials(only).filter(({ memory }) => memory === 'hugetlb');
  return Math.max(0, ...huge.map((one) => totalBytes(one, quick) / HUGE_PAGE_BYTES));
}

/** @throws KernelError with the remedy when there is no KVM, UffdError ERR_GUEST_FAILED */
export async function benchVcpus(options: VcpuBenchOptions): Promise<VcpuReport> {
  const { quick, only, signal, onProgress } = options;
  const started = performance.now();
  using kvm = Kvm.open();
  using context = new BenchContext({ quick, signal, faultAround: undefined });
  const machine = machineFacts(context.cpusUsed);
  const chosen = chosenTrials(only);
  const snapshot = context.snapshot(Math.max(...chosen.map((one) => totalBytes(one, quick))));
  const measured: { one: VcpuTrial; results: Measured[] }[] = [];
  for (const [done, one] of chosen.entries()) {
    signal.throwIfAborted();
    onProgress(done, chosen.length, one.name);
    measured.push({ one, results: await runTrial(context, kvm, snapshot, one) });
  }
  const resultsOf = (isControl: boolean) =>
    measured.filter(({ one }) => (one.control === true) === isControl).flatMap(({ results }) => results);
  return {
    schema: 1,
    quick,
    seconds: (performance.now() - started) / 1000,
    comparisons: resultsOf(false).map(withRates),
    noise: noise(resultsOf(true)),
    machine,
  };
}

function withRates(measured: Measured): VcpuComparison {
  const { subject, reference } = measured;
  const perSecond = (us: number) => 1e6 / us;
  return {
    ...comparison(measured),
    pagesPerSecond: { subject: perSecond(subject.median), reference: perSecond(reference.median) },
  };
}

function totalBytes({ memory, vcpus }: VcpuTrial, quick: boolean): number {
  const size = memory === 'hugetlb' ? HUGE_BYTES : BASE_BYTES;
  return vcpus * (quick ? size.quick : size.full);
}

/** One page per answer on both sides: what is compared is the way of a fault. */
async function runTrial(context: BenchContext, kvm: Kvm, snapshot: Snapshot, one: VcpuTrial): Promise<Measured[]> {
  const { handler: cpus } = context.cpus(one.placement);
  const sizeBytes = totalBytes(one, context.quick);
  await using cleanup = new Cleanup();
  const resident = one.mode === 'minor' ? cleanup.use(await filledMemfd(one.memory, sizeBytes, snapshot)) : undefined;
  const filledFrom = resident === undefined ? { snapshot } : {};
  const byReference: Handler = (memory) => new ReferenceHandler(memory, { pagesPerAnswer: 1, cpus, ...filledFrom });
  let bySubject: Handler = byReference;
  if (one.control !== true) {
    const options = { faultAround: 1, workers: 1, fill: 'copy', cpus, ...filledFrom } as const;
    const server = cleanup.use(await TestedServer.start(options));
    bySubject = async (memory) => {
      const session = await server.serve(memory);
      return { [Symbol.asyncDispose]: () => server.release(session) };
    };
  }
  const setup = { context, kvm, one, sizeBytes, resident, sums: expectedSums(one, sizeBytes, snapshot) };
  const rows = [{ name: one.name, unit: 'us', time: 'perPage' }];
  const [subject, reference] = [bySubject, byReference].map((handler) => new VcpuSide({ ...setup, handler }));
  return await alternate(subject!, reference!, rows, context.size(REPETITIONS));
}

type Handler = (memory: FaultingMemory) => Promise<AsyncDisposable> | Disposable;

interface SideSetup {
  readonly context: BenchContext;
  readonly kvm: Kvm;
  readonly one: VcpuTrial;
  readonly sizeBytes: number;
  /** Memory whose pages are all there. */
  readonly resident: Memfd | undefined;
  /** What each vCPU must add up. */
  readonly sums: readonly bigint[];
  readonly handler: Handler;
}

/** New memory, and a new guest, for every run. */
class VcpuSide implements Contestant {
  readonly #setup: SideSetup;

  constructor(setup: SideSetup) {
    this.#setup = setup;
  }

  async run(): Promise<Times> {
    const { context, kvm, one, sizeBytes, resident, sums, handler } = this.#setup;
    await using cleanup = new Cleanup();
    const memory = cleanup.use(
      resident === undefined ? absent(one.memory, sizeBytes) : new FaultingMemory(Mapping.map(resident), resident),
    );
    // Before the guest in closing, after it in making: whoever waits for a page is answered to the end.
    cleanup.use(await handler(memory));
    const cpus = context.cpus(one.placement).touching;
    const guest = cleanup.use(await TouchingGuest.create(kvm, memory, { vcpus: one.vcpus, cpus }));
    const result = await guest.run(context.signal);
    if (result.sums.some((sum, vcpu) => sum !== sums[vcpu])) {
      throw new UffdError('ERR_GUEST_FAILED', `a vCPU read wrong bytes: ${one.name}`);
    }
    return { perPage: (result.seconds * 1e6) / memory.pages };
  }
}

function absent(kind: VcpuTrial['memory'], sizeBytes: number): FaultingMemory {
  if (kind === 'anonymous') return new FaultingMemory(Mapping.anonymous(sizeBytes), undefined);
  const memfd = memfdOf(kind, sizeBytes);
  return new FaultingMemory(Mapping.map(memfd), memfd, 'owned');
}

function memfdOf(kind: VcpuTrial['memory'], sizeBytes: number): Memfd {
  return Memfd.create({ sizeBytes, name: 'uffd-bench', ...(kind === 'hugetlb' && { hugetlb: '2M' as const }) });
}

/** A memfd with the bytes of the snapshot in it. */
async function filledMemfd(kind: VcpuTrial['memory'], sizeBytes: number, snapshot: Snapshot): Promise<Memfd> {
  const memfd = memfdOf(kind, sizeBytes);
  using mapping = Mapping.map(memfd);
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) await mapping.write(at, snapshot.read(at, CHUNK_BYTES));
  return memfd;
}

/** The sum of the first word of each page, for the part of each vCPU. */
function expectedSums({ memory, vcpus }: VcpuTrial, sizeBytes: number, snapshot: Snapshot): bigint[] {
  const stride = memory === 'hugetlb' ? HUGE_PAGE_BYTES : pageSize();
  const part = sizeBytes / vcpus;
  return Array.from({ length: vcpus }, (_, vcpu) => {
    const bytes = snapshot.read(vcpu * part, part);
    let sum = 0n;
    for (let at = 0; at < part; at += stride) sum += bytes.readBigUInt64LE(at);
    return BigInt.asUintN(64, sum);
  });
}
