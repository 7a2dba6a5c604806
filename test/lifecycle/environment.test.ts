// Every state against every way for an environment to end: exit status 0, no signal, in time.
import { beforeEach, describe, expect, test } from 'vitest';
import { expectCleanExit, runScript, withoutLeakCheck } from '../support/child.js';
import { requires } from '../support/requires.js';
import { blockingStates, states } from './states.mjs';

const scenario = new URL('./scenario.mjs', import.meta.url);

beforeEach((context) => {
  requires(context, 'uffd');
});

function run(ending: string, state: string, ...more: string[]) {
  return runScript(scenario, [ending, state, ...more], { env: state.includes('unread') ? withoutLeakCheck : {} });
}

const inWorkers = [...Object.keys(states), ...Object.keys(blockingStates)];

describe.each(['worker.terminate', 'process exits'])('%s', (ending) => {
  test.concurrent.each(inWorkers)('while a worker is: %s', async (state) => {
    expectCleanExit(await run(ending, state));
  });
});

describe('the worker calls process.exit()', () => {
  test.concurrent.each(Object.keys(states))('while it is: %s', async (state) => {
    expectCleanExit(await run('worker exits', state));
  });
});

describe('the main thread calls process.exit()', () => {
  test.concurrent.each(Object.keys(states))('while it is: %s', async (state) => {
    expectCleanExit(await run('main exits', state));
  });
});

describe('four workers at once', () => {
  test.concurrent.each(['blocked in a fault', 'iterating', 'touch threads', 'waiting in answerAndWait'])(
    'terminated while they are: %s',
    async (state) => {
      expectCleanExit(await run('worker.terminate', state, '4'));
    },
  );
});

test('the event loop ends by itself when nothing runs', async () => {
  for (const state of ['loaded', 'open', 'viewed', 'accesses ending', 'unmap events unread']) {
    expectCleanExit(await run('main ends', state));
  }
});

test.concurrent.each(['blocked in a fault', 'iterating'])('the process stays while it is: %s', async (state) => {
  const { timedOut, stdout } = await runScript(scenario, ['main ends', state], { deadlineMs: 1500 });
  expect(timedOut).toBe(true);
  expect(stdout).toBe('reached\n');
});
