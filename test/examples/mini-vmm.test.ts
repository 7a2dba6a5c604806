// The mini VMM of the examples, with its memory served by another process.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { Serve, temporaryFolder } from '../e2e/support.js';
import { requires } from '../support/requires.js';
import { Program, installedFolder, root } from './sandbox.js';

const folder = temporaryFolder();
const PAGES = 512;

beforeEach((context) => {
  requires(context, 'kvm', 'uffd', 'uffd-minor');
});

/** Pages whose first 64 bits are large numbers, and their sum. */
function snapshot(): { file: string; sum: bigint } {
  const bytes = Buffer.alloc(PAGES * 4096, 0xee);
  let sum = 0n;
  for (let page = 0; page < PAGES; page++) {
    const word = BigInt.asUintN(64, (BigInt(page) + 1n) * 0x9e3779b97f4a7c15n);
    bytes.writeBigUInt64LE(word, page * 4096);
    sum += word;
  }
  const file = join(folder, 'pages');
  writeFileSync(file, bytes);
  return { file, sum: BigInt.asUintN(64, sum) };
}

function miniVmm(socket: string): Program {
  const script = join(root, 'examples/mini-vmm/main.mjs');
  return new Program(process.execPath, [script, socket, String(PAGES * 4096)], installedFolder());
}

test('the guest adds up what the server serves', async () => {
  const { file, sum } = snapshot();
  const serve = await Serve.start(file, join(folder, 'vmm.sock'), '--fault-around', '1');
  const { status, stdout, stderr } = await miniVmm(serve.socket).ended();
  expect(stderr).toBe('');
  expect(stdout).toMatch(new RegExp(`^sum ${sum.toString(16)}, \\d+ faults\n$`));
  // How often the vCPU slept: now and then a page is there before it does.
  expect(Number(/(\d+) faults/.exec(stdout)![1])).toBeGreaterThan(PAGES * 0.9);
  expect(status).toBe(0);
  // What the server read is exact: a message for each page.
  expect(Number((await serve.event('detached'))['faults'])).toBeGreaterThanOrEqual(PAGES);
  await serve.stop();
});

test('a server that goes is the end of it', async () => {
  const { file } = snapshot();
  const serve = await Serve.start(file, join(folder, 'gone.sock'), '--fault-around', '1');
  serve.kill('SIGSTOP');
  const program = miniVmm(serve.socket);
  // Its handshake is not answered either; what ends is the connection.
  await new Promise((resolve) => setTimeout(resolve, 500));
  serve.kill('SIGKILL');
  const { status, stdout, stderr } = await program.ended();
  expect(stderr).toMatch(/the fault server is gone/);
  expect([status, stdout]).toEqual([1, '']);
});
