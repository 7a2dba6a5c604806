// Objects in a process of their own: closed twice, closed while in use, collected, and many workers in a row.
import { readdirSync } from 'node:fs';
import { beforeEach, expect, test } from 'vitest';
import { expectCleanExit, runScript } from '../support/child.js';
import { requires } from '../support/requires.js';

const folder = new URL('./scripts/', import.meta.url);
const scripts = readdirSync(folder).filter((name) => name.endsWith('.mjs'));

beforeEach((context) => {
  requires(context, 'uffd');
});

test('there are scripts', () => {
  expect(scripts.length).toBeGreaterThan(5);
});

test.concurrent.each(scripts)('%s', async (name) => {
  requires(
    {
      skip: () => {
        throw new Error('needs userfaultfd');
      },
    },
    'uffd',
  );
  const options = { nodeOptions: ['--expose-gc'], deadlineMs: 25_000 };
  expect(expectCleanExit(await runScript(new URL(name, folder), [], options))).toBe('ok\n');
});
