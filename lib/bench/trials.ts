// Every row of the benchmark, as data.
import type { Placement, Size } from './bench-context.js';
import type { Row } from './contestant.js';
import type { IdleTrial, ResidentTrial } from './resident.js';
import type { RestoreTrial } from './restore.js';

export type Trial = ResidentTrial | IdleTrial | RestoreTrial;

const placements: readonly Placement[] = ['one CPU', 'two CPUs', 'unpinned'];
const pinned: readonly Placement[] = ['one CPU', 'two CPUs'];

const SINGLE: Pick<ResidentTrial, 'pages' | 'repetitions'> = {
  pages: { full: 8192, quick: 2048 },
  repetitions: { full: 21, quick: 5 },
};

function latencyRows(name: string): Row[] {
  return [
    { name: `${name}, p50`, unit: 'us', time: 'p50' },
    { name: `${name}, p99`, unit: 'us', time: 'p99' },
  ];
}

function rowOf(name: string, unit: string, time: string): Row[] {
  return [{ name, unit, time }];
}

function latency(placement: Placement): ResidentTrial {
  const name = `one fault, ${placement}`;
  const rows = latencyRows(name);
  return { runner: 'resident', name, rows, placement, threads: 1, pagesPerAnswer: 1, ...SINGLE };
}

function throughput(threads: number, placement: Placement): ResidentTrial {
  const name = `time per fault, ${threads} ${threads === 1 ? 'thread' : 'threads'}, ${placement}`;
  const pages: Size = { full: 16_384, quick: 4096 };
  const repetitions: Size = { full: 11, quick: 5 };
  const rows = rowOf(name, 'us', 'perFault');
  return { runner: 'resident', name, rows, placement, threads, pagesPerAnswer: 1, pages, repetitions };
}

function populate(pagesPerAnswer: number, placement: Placement): ResidentTrial {
  const name = `resident pages, ${pagesPerAnswer} per answer, ${placement}`;
  const pages: Size = { full: 262_144, quick: 8192 };
  const slow = pagesPerAnswer === 1 && placement === 'two CPUs';
  const repetitions: Size = { full: slow ? 3 : 9, quick: 3 };
  const rows = rowOf(name, 's/GiB', 'perGibibyte');
  return { runner: 'resident', name, rows, placement, threads: 1, pagesPerAnswer, pages, repetitions };
}

function restore(memory: 'anonymous' | 'memfd', fill: RestoreTrial['fill']): RestoreTrial {
  const name = `random restore, ${memory}${fill === 'auto' ? '' : `, filled by ${fill}`}`;
  return {
    runner: 'restore',
    name,
    rows: rowOf(name, 's/GiB', 'perGibibyte'),
    memory,
    fill,
    sizeBytes: { full: 2 ** 30, quick: 2 ** 28 },
    threads: 4,
    repetitions: { full: 7, quick: 3 },
  };
}

function beside(sessions: number): IdleTrial {
  const name = `one fault, ${sessions} idle ${sessions === 1 ? 'session' : 'sessions'} beside`;
  const rows = latencyRows(name).slice(0, 1);
  return { runner: 'idle', name, rows, sessions, ...SINGLE };
}

/** The same as a trial, but the C handler against itself. */
function control(trial: ResidentTrial): ResidentTrial {
  return { ...trial, control: true };
}

/** In order of measuring: the controls are spread over the run, and pinned: unpinned, placement alone makes a factor. */
export const trials: readonly Trial[] = [
  latency('one CPU'),
  control(latency('one CPU')),
  latency('two CPUs'),
  control(latency('two CPUs')),
  ...[1, 2, 4, 8, 16].flatMap((threads) => placements.map((placement) => throughput(threads, placement))),
  control(throughput(4, 'one CPU')),
  ...[1, 16, 64, 512].flatMap((pages) => pinned.map((placement) => populate(pages, placement))),
  control(populate(64, 'one CPU')),
  restore('anonymous', 'auto'),
  restore('memfd', 'auto'),
  restore('memfd', 'copy'),
  restore('memfd', 'continue'),
  ...[1, 100, 1000].map(beside),
];
