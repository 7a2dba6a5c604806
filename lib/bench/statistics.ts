// From repetitions to figures.

export interface Figures {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** A percentile of ascending values, by nearest rank. */
export function percentile(ascending: ArrayLike<number>, percent: number): number {
  const rank = Math.ceil((percent / 100) * ascending.length) - 1;
  return ascending[Math.min(ascending.length - 1, Math.max(0, rank))] ?? NaN;
}

export function median(values: readonly number[]): number {
  const ascending = values.toSorted((a, b) => a - b);
  const middle = ascending.length / 2;
  const [below, above] = [ascending[Math.ceil(middle) - 1] ?? NaN, ascending[Math.floor(middle)] ?? NaN];
  return (below + above) / 2;
}

export function figures(values: readonly number[]): Figures {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * The median of the ratios of each repetition, not the ratio of the medians: what disturbs the machine for a while then
 * disturbs both sides of one pair.
 */
export function pairedRatio(subject: readonly number[], reference: readonly number[]): number {
  return median(pairedRatios(subject, reference));
}

export function pairedRatios(subject: readonly number[], reference: readonly number[]): number[] {
  return subject.map((value, repetition) => value / (reference[repetition] ?? NaN));
}
