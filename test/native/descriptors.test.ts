// Nothing is left behind: every class a thousand times, closed or not.
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { expect, test } from 'vitest';
import { Mapping, Memfd, Userfaultfd } from '../../dist/index.js';
import { type NativeMapping, QueueControl } from '../../dist/native/contract.js';
import type { NativeKvmVm } from '../../dist/native/kvm-contract.js';
import { native } from '../../dist/native/load.js';
import { expectCleanExit, runScript } from '../support/child.js';
import { PAGE, registeredMemfd } from '../support/memory.js';
import { duplicate, socketPair } from '../support/native.js';
import { requires } from '../support/requires.js';
import { collectUntil, mappingsOf, openDescriptors } from '../support/resources.js';

const childProcess = new URL('../support/hand-over.mjs', import.meta.url);

function blocks(): [Float64Array, Float64Array, Int32Array] {
  const doubles = (bytes: number) => new Float64Array(new SharedArrayBuffer(bytes));
  return [doubles(64), doubles(48), new Int32Array(new SharedArrayBuffer(4 * QueueControl.fields))];
}

const makers: Record<string, () => { close(): void }> = {
  Memfd: () => Memfd.create({ sizeBytes: PAGE }),
  Userfaultfd: () => Userfaultfd.open(),
  FaultQueue: () => new (native().FaultQueue)(...blocks()),
  SourceFile: () => new (native().SourceFile)('/proc/self/exe'),
  UnixSocket: () => new (native().UnixSocket)(duplicate(1)),
  'registered memory': () => {
    const memfd = Memfd.create({ sizeBytes: PAGE, name: 'thousand' });
    const mapping = Mapping.map(memfd);
    const uffd = Userfaultfd.open();
    uffd.register(mapping, ['missing']);
    return {
      close: () => {
        uffd.close();
        mapping.unmap();
        memfd.close();
      },
    };
  },
};

test.for(Object.keys(makers))('%s: opened and closed a thousand times', async (name, context) => {
  requires(context, 'uffd');
  const before = openDescriptors();
  for (let i = 0; i < 1000; i++) makers[name]!().close();
  // Some by threads that nobody waits for.
  await expect.poll(openDescriptors).toBe(before);
  expect(mappingsOf('thousand')).toBe(0);
});

test.for(Object.keys(makers))('%s: collected when nobody closes it', async (name, context) => {
  requires(context, 'uffd');
  const before = openDescriptors();
  for (let i = 0; i < 50; i++) makers[name]!();
  const after = openDescriptors();
  expect(after).toBeGreaterThan(before);
  // The collector may see the last one in a register or a stale stack slot; all the others must go.
  const ofTwo = ((after - before) / 50) * 2;
  const collected = () => openDescriptors() <= before + ofTwo && mappingsOf('thousand') <= 2;
  expect(await collectUntil(collected)).toBe(true);
});

test('closing a number that is no descriptor is harmless', () => {
  const before = openDescriptors();
  native().closeFd(-1);
  native().closeFd(99_999);
  native().closeDetached(-1);
  expect(native().duplicateFd(99_999)).toBe(-9);
  expect(native().sealsOf(1)).toBe(-22);
  expect(openDescriptors()).toBe(before);
});

test('closeDetached closes, a little later', async () => {
  const before = openDescriptors();
  const fd = duplicate(1);
  expect(openDescriptors()).toBe(before + 1);
  native().closeDetached(fd);
  await expect.poll(() => openDescriptors()).toBe(before);
});

test('affinity of this thread', () => {
  const cpus = native().affinity();
  expect(cpus.length).toBeGreaterThan(0);
  try {
    expect(native().setAffinity([cpus[0]!])).toBe(0);
    expect(native().affinity()).toEqual([cpus[0]]);
    expect(native().setAffinity([-1])).toBe(-22);
  } finally {
    native().setAffinity(cpus);
  }
});

test('gone: the process whose memory it was has exited', async (context) => {
  requires(context, 'uffd');
  const [here, there] = socketPair();
  const { spawn } = await import('node:child_process');
  const child = spawn(process.execPath, [childProcess.pathname], {
    stdio: ['ignore', 'ignore', 'inherit', there.fd()],
  });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const buffer = new Uint8Array(64);
  let message: unknown;
  await expect.poll(() => (message = here.receive(buffer)), { timeout: 5000 }).not.toBe(-11);
  const [bytes, , fd] = message as [number, boolean, number];
  const { start, page } = JSON.parse(Buffer.from(buffer.subarray(0, bytes)).toString()) as { start: number; page: number };
  using uffd = Userfaultfd.adopt(fd, [{ start: BigInt(start), lengthBytes: 3 * page }]);
  const region = uffd.regions[0]!;
  expect(uffd.alive).toBe(true);
  expect(uffd.zeropage({ region, page: 0 }).kind).toBe('installed');
  child.kill('SIGKILL');
  await exited;
  await expect.poll(() => uffd.alive).toBe(false);
  expect(uffd.zeropage({ region, page: 1 }).kind).toBe('gone');
  expect(uffd.copy({ region, page: 1 }, new Uint8Array(page)).kind).toBe('gone');
});

test('a TypeError of the native layer names the position, and nothing happens', () => {
  const { uffd } = registeredMemfd(1);
  const queue = new (native().FaultQueue)(...blocks());
  expect(() => queue.answer(2)).toThrow(/argument 0 must be/);
  expect(() => queue.answer(-1)).toThrow(TypeError);
  expect(() => queue.answer('1' as unknown as number)).toThrow(/argument 0 must be a number/);
  expect(() => new (native().FdWatcher)(99_999, () => undefined)).toThrow(/cannot be watched/);
  expect(() => new (native().FdWatcher)(uffd.fd, 1 as unknown as () => void)).toThrow(/argument 1 must be a function/);
  queue.close();
  for (const element of [0n, '0', undefined, Symbol('0'), {}]) {
    expect(() => native().setAffinity([0, element as number])).toThrow(/argument 0 must be an array of numbers/);
  }
});

test('an object of another class is not taken for a Mapping or a VM', () => {
  const { TouchThreads, BounceThreads, KvmVcpu, Memfd: NativeMemfd } = native();
  const numbers = new Uint32Array(new SharedArrayBuffer(4));
  const done = () => undefined;
  for (const foreign of [new NativeMemfd(-1), {}, 1]) {
    const mapping = foreign as NativeMapping;
    expect(() => new TouchThreads(mapping, PAGE, numbers, 1, false, false, [], done)).toThrow(/must be a Mapping/);
    expect(() => new BounceThreads(mapping, 0, PAGE, numbers, numbers, 1, false, done)).toThrow(/must be a Mapping/);
    expect(() => new KvmVcpu(foreign as NativeKvmVm, 0, PAGE)).toThrow(/must be a KvmVm/);
  }
});

test('the handler of the benchmark needs a userfaultfd', () => {
  const none = new Float64Array();
  expect(() => new (native().ReferenceHandler)([], none, none, PAGE, 1, 0, [])).toThrow(/must be not empty/);
});

test('maps and descriptors of a child that only imports the package: the addon is not loaded', async () => {
  const script = new URL('../support/only-import.mjs', import.meta.url);
  expect(expectCleanExit(await runScript(script))).toBe('no addon, then one');
  expect(readFileSync('/proc/self/maps', 'utf8')).toContain('uffd.node');
});
