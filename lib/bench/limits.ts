// What no handler can beat: the kernel's own work without faults, and the work of measuring.
import { Mapping } from '../memory/mapping.js';
import { pageSize } from '../memory/page-size.js';
import type { BenchContext } from './bench-context.js';
import { FaultingMemory } from './handlers.js';
import type { Limit } from './report.js';
import { figures } from './statistics.js';
import { touch, touchOrder } from './touching.js';

const PAGES = { full: 65_536, quick: 8192 };
const REPETITIONS = { full: 9, quick: 3 };
const PAGES_PER_CALL = 64;

export interface LimitTrial {
  readonly name: string;
  /** One time for each repetition, in nanoseconds per page. */
  readonly measure: (context: BenchContext, pages: number) => Promise<number>;
}

export const limitTrials: readonly LimitTrial[] = [
  { name: `UFFDIO_CONTINUE, ${PAGES_PER_CALL} pages a call, no faults`, measure: bulkContinue },
  { name: 'touch of resident memory without a userfaultfd, mapped anew', measure: plainTouch },
  { name: 'touch of mapped memory: the cost of measuring', measure: mappedTouch },
];

export async function runLimit(context: BenchContext, trial: LimitTrial): Promise<Limit> {
  const times: number[] = [];
  for (let repetition = -1; repetition < context.size(REPETITIONS); repetition++) {
    context.signal.throwIfAborted();
    const time = await trial.measure(context, context.size(PAGES));
    if (repetition >= 0) times.push(time);
  }
  return { name: trial.name, unit: 'ns/page', ...figures(times) };
}

function bulkContinue(context: BenchContext, pages: number): Promise<number> {
  const lengthBytes = pages * pageSize();
  const memfd = context.resident(lengthBytes);
  using memory = new FaultingMemory(Mapping.map(memfd, { lengthBytes }), memfd);
  const { region, userfaultfd } = memory;
  const started = performance.now();
  for (let page = 0; page < pages; page += PAGES_PER_CALL) {
    userfaultfd.continue({ region, page, pages: PAGES_PER_CALL });
  }
  return Promise.resolve(((performance.now() - started) * 1e6) / pages);
}

async function plainTouch(context: BenchContext, pages: number): Promise<number> {
  using mapping = residentMapping(context, pages);
  return await touchAll(context, mapping, pages);
}

async function mappedTouch(context: BenchContext, pages: number): Promise<number> {
  using mapping = residentMapping(context, pages);
  mapping.populate('read');
  return await touchAll(context, mapping, pages);
}

async function touchAll(context: BenchContext, mapping: Mapping, pages: number): Promise<number> {
  const cpus = context.cpus('one CPU').touching;
  const { seconds } = await touch(mapping, {
    order: touchOrder(pages, 'sequential'),
    threads: 1,
    cpus,
    signal: context.signal,
  });
  return (seconds * 1e9) / pages;
}

function residentMapping(context: BenchContext, pages: number): Mapping {
  const lengthBytes = pages * pageSize();
  return Mapping.map(context.resident(lengthBytes), { lengthBytes });
}
