// A fault server that nobody talks to must not hold the end of its process up.
import { expect, it } from 'vitest';
import { milliseconds } from '../support/deadline.js';
import { requires } from '../support/requires.js';
import { run } from '../e2e/support.js';

const script = (end: string) => `
import { FaultServer, fileSource } from 'userfaultfd';
await FaultServer.start({ source: fileSource(process.execPath) });
setTimeout(() => { ${end} }, 900);
`;

it.each([
  ['process.exit', 'process.exit(3)', 3],
  ['an uncaught exception', 'throw new Error("on purpose")', 1],
])('%s, long after the last event', async (_, end, code) => {
  const result = await run(process.execPath, ['--input-type=module', '-e', script(end)], {
    timeoutMs: milliseconds(15_000),
  });
  expect(result.code).toBe(code);
  expect(result.seconds).toBeLessThan(milliseconds(8000) / 1000);
});

it('close, long after the last event', async (context) => {
  requires(context, 'uffd');
  const end = 'server.close().then(() => console.log("closed"))';
  const text = script(end).replace('await FaultServer', 'const server = await FaultServer');
  const result = await run(process.execPath, ['--input-type=module', '-e', text], { timeoutMs: milliseconds(15_000) });
  expect(result.stdout).toBe('closed\n');
  expect(result.code).toBe(0);
});
