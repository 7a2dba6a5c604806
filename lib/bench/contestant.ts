// Two sides, run by turns.
import type { Figures } from './statistics.js';
import { figures, pairedRatio } from './statistics.js';

/** Times of one run by name, e.g. `p50`. */
export type Times = Readonly<Record<string, number>>;

export interface Contestant {
  run(): Promise<Times>;
}

/** A time of a run that becomes a row of the report. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly time: string;
  /** The ratio it should not be above. */
  readonly reach?: number;
}

export interface Measured {
  readonly row: Row;
  readonly subject: Figures;
  readonly reference: Figures;
  readonly ratio: number;
  readonly repetitions: number;
}

/** Each side once to warm up, then `repetitions` times, the order reversed every other time. */
export async function alternate(
  subject: Contestant,
  reference: Contestant,
  rows: readonly Row[],
  repetitions: number,
): Promise<Measured[]> {
  const subjects: Times[] = [];
  const references: Times[] = [];
  for (let repetition = -1; repetition < repetitions; repetition++) {
    const sides: [Contestant, Times[]][] = [
      [subject, subjects],
      [reference, references],
    ];
    if (repetition % 2 === 0) sides.reverse();
    for (const [side, times] of sides) {
      const time = await side.run();
      if (repetition >= 0) times.push(time);
    }
  }
  return rows.map((row) => {
    const timesOf = (times: readonly Times[]) => times.map((time) => time[row.time] ?? NaN);
    const [subjectTimes, referenceTimes] = [timesOf(subjects), timesOf(references)];
    return {
      row,
      subject: figures(subjectTimes),
      reference: figures(referenceTimes),
      ratio: pairedRatio(subjectTimes, referenceTimes),
      repetitions,
    };
  });
}
