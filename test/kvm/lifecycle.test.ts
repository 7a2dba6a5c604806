// Whatever a vCPU is at, the environment it belongs to ends: exit status 0, no signal, in time.
import { beforeEach, describe, expect, test } from 'vitest';
import { expectCleanExit, runScript, withoutLeakCheck } from '../support/child.js';
import { requires } from '../support/requires.js';

const ending = new URL('./ending.mjs', import.meta.url);
const states = ['standing', 'halted', 'running', 'waiting for a page', 'closed'];

beforeEach((context) => {
  requires(context, 'kvm', 'uffd');
});

describe.each(['main exits', 'worker.terminate', 'worker exits'])('%s', (end) => {
  test.concurrent.each(states)('while a vCPU is: %s', async (state) => {
    const env = state === 'waiting for a page' ? withoutLeakCheck : {};
    expectCleanExit(await runScript(ending, [end, state], { env }));
  });
});

test.concurrent.each(['standing', 'halted', 'closed'])('the event loop ends by itself: %s', async (state) => {
  expectCleanExit(await runScript(ending, ['main ends', state]));
});

test('the process stays while a guest runs', async () => {
  const { timedOut } = await runScript(ending, ['main ends', 'running'], { deadlineMs: 700 });
  expect(timedOut).toBe(true);
});

test('what nobody holds is collected', async () => {
  const script = new URL('./collect.mjs', import.meta.url);
  expect(expectCleanExit(await runScript(script, [], { nodeOptions: ['--expose-gc'] }))).toBe('ok\n');
});
