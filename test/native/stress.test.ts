// The stress test on itself: what it must find is found, in this process, so that sanitizers see its threads.
import { beforeEach, describe, expect, test } from 'vitest';
import { passed } from '../../dist/stress/report.js';
import { stress } from '../../dist/stress/stress.js';
import type { StressReport } from '../../lib/stress/report.js';
import type { StressOptions } from '../../lib/stress/stress.js';
import { milliseconds } from '../support/deadline.js';
import { mappingsOf, openDescriptors } from '../support/resources.js';
import { PAGE } from '../support/memory.js';
import { requires } from '../support/requires.js';

const small = { sizeBytes: 2 ** 20, seconds: 1, threads: 4, handlers: 3 };

/** With the mistakes that the published types do not have. */
function run(options: StressOptions): Promise<StressReport> {
  return stress(options);
}

/** Runs until the mistake has been found: on a busy machine a second may be a single bounce. */
function runUntilFound(options: StressOptions): Promise<StressReport> {
  const found = new AbortController();
  const onBounce = (soFar: StressReport) => {
    if (!passed(soFar)) found.abort();
  };
  return run({ ...options, seconds: milliseconds(10_000) / 1000, signal: found.signal, onBounce });
}

beforeEach((context) => {
  requires(context, 'uffd', 'uffd-minor');
});

describe.each(['anon', 'shmem', 'shmem-private'] as const)('%s', (memory) => {
  test('right answers: nothing is found', async () => {
    const report = await run({ memory, ...small });
    expect(passed(report), JSON.stringify(report)).toBe(true);
    expect(report.bounces.all).toBeGreaterThan(0);
  });

  test('pages filled with the bytes of others are wrong pages', async () => {
    const report = await runUntilFound({ memory, ...small, mistake: 'wrong-page' });
    expect(report.wrongPages).toBeGreaterThan(0);
    expect(report.firstWrong).toMatch(/^bounce \d+, page (\d+), line 0: line 0 of page (?!\1 )\d+ as it was after change/);
    expect(passed(report)).toBe(false);
  });

  test('pages that are older than they should be are wrong pages', async () => {
    const report = await runUntilFound({ memory, ...small, mistake: 'dropped-page' });
    expect(report.wrongPages).toBeGreaterThan(0);
    expect(report.firstWrong).toMatch(/^bounce \d+, page (\d+), line \d+: (line \d+ of page \1 as it was|zeroes)/);
    expect(passed(report)).toBe(false);
  });

  test('a page that is lost when a bounce is over is a wrong page', async () => {
    const report = await runUntilFound({ memory, ...small, mistake: 'lost-page' });
    expect(report.wrongPages).toBeGreaterThan(0);
    expect(report.firstWrong).toMatch(
      new RegExp(`^bounce 0, page ${small.sizeBytes / PAGE - 1}, line 0: zeroes instead of change \\d+$`),
    );
    expect(passed(report)).toBe(false);
  });

  test('a COPY that should have been EEXIST and was not is unexpected', async () => {
    const report = await runUntilFound({ memory, ...small, mistake: 'not-twice' });
    expect(report.unexpected[0]).toMatch(new RegExp(`^${PAGE} bytes as the result of "provoke", page \\d+$`));
    expect(report.wrongPages).toBe(0);
    expect(passed(report)).toBe(false);
  });

  test('a fault nobody answers ends the run, not the patience', async () => {
    const stallMs = milliseconds(500);
    const report = await run({ memory, ...small, seconds: 60, stallMs, mistake: 'unanswered' });
    expect(report.stalled).toMatch(/^no page has come for .* s: an answer or a wake-up is missing$/);
    expect(passed(report)).toBe(false);
  });
});

test('a run that is ended early reports, and leaves nothing behind', async () => {
  const stop = new AbortController();
  const options = { memory: 'shmem' as const, ...small, seconds: 600, signal: stop.signal };
  await stress({ ...options, seconds: 1 });
  const before = { descriptors: openDescriptors(), mappings: mappingsOf('uffd-stress') };
  let bounces = 0;
  const report = await stress({
    ...options,
    onBounce: () => {
      if (++bounces === 3) stop.abort();
    },
  });
  expect(passed(report)).toBe(true);
  expect(report.bounces.all).toBe(3);
  expect({ descriptors: openDescriptors(), mappings: mappingsOf('uffd-stress') }).toEqual(before);
});
