// The text Prometheus reads: escaping, cumulative buckets, families once.
import { describe, expect, it } from 'vitest';
import { exposition, histogramSamples } from '../../dist/observe/exposition.js';
import { merged } from '../../dist/observe/metrics.js';
import { Measures, boundsMs } from '../../dist/server/measures.js';

describe('exposition', () => {
  it('escapes labels and help', () => {
    const labels = { file: 'a"b\\c\nd' };
    expect(exposition([{ name: 'x', type: 'gauge', help: 'one\\\ntwo', samples: [{ labels, value: 1 }] }])).toBe(
      '# HELP x one\\\\\\ntwo\n# TYPE x gauge\nx{file="a\\"b\\\\c\\nd"} 1\n',
    );
  });

  it('leaves out what has no samples, and says a family of two servers once', () => {
    const family = (file: string) => ({
      name: 'x',
      type: 'counter' as const,
      help: 'y',
      samples: [{ labels: { file }, value: 2 }],
    });
    expect(exposition(merged([family('a'), family('b'), { ...family('c'), name: 'z', samples: [] }]))).toBe(
      '# HELP x y\n# TYPE x counter\nx{file="a"} 2\nx{file="b"} 2\n',
    );
  });

  it('adds up what two servers of one file say', () => {
    const family = (value: number) => ({
      name: 'x',
      type: 'histogram' as const,
      help: 'y',
      samples: histogramSamples({ file: 'a' }, [1], [value, 0], value),
    });
    expect(merged([family(2), family(3)])[0]!.samples.map(({ value }) => value)).toEqual([5, 5, 5, 5]);
  });

  it('buckets are cumulative, the last one is +Inf and the count', () => {
    const samples = histogramSamples({ a: 'b' }, [1, 2], [3, 0, 4], 9);
    expect(samples.map(({ suffix, labels, value }) => [suffix, (labels as { le?: string }).le, value])).toEqual([
      ['_bucket', '1', 3],
      ['_bucket', '2', 3],
      ['_bucket', '+Inf', 7],
      ['_sum', undefined, 9],
      ['_count', undefined, 7],
    ]);
  });
});

it('measures go into the bucket of their bound, and what is longer into the last', () => {
  const measures = new Measures();
  const reader = new Measures(measures.shared);
  measures.given();
  measures.waited(performance.now() - 20_000);
  measures.given();
  measures.waited(performance.now() - 200);
  const { counts, sumMs } = reader.histogram('waited');
  expect(counts).toHaveLength(boundsMs.length + 1);
  expect(counts.at(-1)).toBe(1);
  expect(counts[boundsMs.indexOf(250)]).toBe(1);
  expect(sumMs).toBeGreaterThan(20_100);
  expect(reader.histogram('filled').counts.every((count) => count === 0)).toBe(true);
});
