// The rows of `uffd bench serve` that are compared with the C handler, as data.
import type { Size } from '../bench-context.js';
import type { Touched } from './touched-pages.js';

export interface ServeTrial {
  readonly name: string;
  readonly memory: 'anonymous' | 'memfd';
  readonly touched: Touched;
  readonly replay: boolean;
  /** The ratio it should not be above. */
  readonly reach: number;
  readonly repetitions: Size;
  /** The C handler against itself. */
  readonly control?: true;
}

export const SIZE_BYTES: Size = { full: 2 ** 30, quick: 2 ** 27 };
/** Unpinned. */
export const THREADS = 4;

const repetitions: Size = { full: 9, quick: 3 };
const whichPages: Readonly<Record<Touched, string>> = {
  all: 'all pages',
  uniform: '25 % of the pages',
  clusters: '25 % in 256 KiB clusters',
};
const memories = { anonymous: 'anonymous', memfd: 'memfd, MINOR' } as const;

function trial(memory: ServeTrial['memory'], touched: Touched, replay: boolean, reach: number): ServeTrial {
  const name = `${memories[memory]}, ${whichPages[touched]}${replay ? ', replayed' : ''}`;
  return { name, memory, touched, replay, reach, repetitions };
}

/** In order of measuring, the control in the middle. */
export const trials: readonly ServeTrial[] = [
  trial('anonymous', 'uniform', false, 1 / 1.5),
  trial('anonymous', 'uniform', true, 1 / 3),
  trial('anonymous', 'clusters', false, 1 / 4),
  trial('anonymous', 'clusters', true, 1 / 4),
  { ...trial('anonymous', 'clusters', false, 1), name: 'C against itself', control: true },
  trial('anonymous', 'all', false, 1 / 5),
  trial('memfd', 'clusters', false, 1 / 2.5),
  trial('memfd', 'clusters', true, 1 / 2.5),
  trial('memfd', 'all', false, 1 / 3),
];
