// Faults on pages that are in the page cache already: what remains is the way of a fault, without its bytes.
import { Mapping } from '../memory/mapping.js';
import { pageSize } from '../memory/page-size.js';
import type { BenchContext, Placement, Size } from './bench-context.js';
import { Cleanup } from './cleanup.js';
import { type Contestant, type Measured, type Row, type Times, alternate } from './contestant.js';
import { FaultingMemory, ReferenceHandler, TestedServer } from './handlers.js';
import { percentile } from './statistics.js';
import { type Load, touch, touchOrder } from './touching.js';

export interface ResidentTrial {
  readonly runner: 'resident';
  readonly name: string;
  readonly rows: readonly Row[];
  readonly placement: Placement;
  readonly threads: number;
  readonly pagesPerAnswer: number;
  readonly pages: Size;
  readonly repetitions: Size;
  /** The C handler against itself. */
  readonly control?: true;
}

export interface IdleTrial {
  readonly runner: 'idle';
  readonly name: string;
  readonly rows: readonly Row[];
  /** Sessions beside the busy one. */
  readonly sessions: number;
  readonly pages: Size;
  readonly repetitions: Size;
}

const GIBIBYTE = 2 ** 30;

/** Touches all of a resident mapping, whose page table is emptied after each run. */
class ResidentSide implements Contestant {
  readonly #memory: FaultingMemory;
  readonly #load: Load;

  constructor(memory: FaultingMemory, load: Load) {
    this.#memory = memory;
    this.#load = load;
  }

  async run(): Promise<Times> {
    const { mapping, pages } = this.#memory;
    const { seconds, latenciesNs } = await touch(mapping, this.#load);
    mapping.advise('dontNeed');
    return {
      p50: percentile(latenciesNs, 50) / 1000,
      p99: percentile(latenciesNs, 99) / 1000,
      perFault: (seconds * 1e6) / pages,
      perGibibyte: (seconds * GIBIBYTE) / mapping.lengthBytes,
    };
  }
}

export async function runResident(context: BenchContext, trial: ResidentTrial): Promise<Measured[]> {
  const { threads, pagesPerAnswer } = trial;
  const pages = context.size(trial.pages);
  const { handler: cpus, touching } = context.cpus(trial.placement);
  using subjectMemory = residentMemory(context, pages);
  using referenceMemory = residentMemory(context, pages);
  const load: Load = { order: touchOrder(pages, 'sequential'), threads, cpus: touching, signal: context.signal };
  await using stack = new Cleanup();
  if (trial.control === true) {
    stack.use(new ReferenceHandler(subjectMemory, { pagesPerAnswer, cpus }));
  } else {
    const server = stack.use(await TestedServer.start({ faultAround: pagesPerAnswer, workers: 1, cpus }));
    await server.serve(subjectMemory);
  }
  stack.use(new ReferenceHandler(referenceMemory, { pagesPerAnswer, cpus }));
  const [subject, reference] = [subjectMemory, referenceMemory].map((memory) => new ResidentSide(memory, load));
  return await alternate(subject!, reference!, trial.rows, context.size(trial.repetitions));
}

/** The server with idle sessions beside the busy one, against the server with the busy one alone. */
export async function runIdle(context: BenchContext, trial: IdleTrial): Promise<Measured[]> {
  const pages = context.size(trial.pages);
  const { handler: cpus, touching } = context.cpus('one CPU');
  const load: Load = { order: touchOrder(pages, 'sequential'), threads: 1, cpus: touching, signal: context.signal };
  await using stack = new Cleanup();
  await using crowded = await TestedServer.start({ faultAround: 1, workers: 1, cpus });
  await using alone = await TestedServer.start({ faultAround: 1, workers: 1, cpus });
  const sides: ResidentSide[] = [];
  for (const server of [crowded, alone]) {
    const memory = stack.use(residentMemory(context, pages));
    await server.serve(memory);
    sides.push(new ResidentSide(memory, load));
  }
  for (let session = 0; session < trial.sessions; session++) {
    context.signal.throwIfAborted();
    await crowded.serve(stack.use(residentMemory(context, 1)));
  }
  return await alternate(sides[0]!, sides[1]!, trial.rows, context.size(trial.repetitions));
}

function residentMemory(context: BenchContext, pages: number): FaultingMemory {
  const lengthBytes = pages * pageSize();
  const memfd = context.resident(lengthBytes);
  return new FaultingMemory(Mapping.map(memfd, { lengthBytes }), memfd);
}
