// Accesses that wait, are called back, or fail: on their own threads, never on the event loop.
import { setMaxListeners } from 'node:events';
import process from 'node:process';
import { expect, test } from 'vitest';
import { Mapping, MemoryFaultError } from '../../dist/index.js';
import { AccessKind } from '../../dist/native/contract.js';
import { native } from '../../dist/native/load.js';
import { expectCleanExit, runProgram } from '../support/child.js';
import { deadline, within } from '../support/deadline.js';
import {
  PAGE,
  anonymousMapping,
  filled,
  mappingOf,
  memfdOf,
  nextFault,
  registeredAnonymous,
  registeredMemfd,
} from '../support/memory.js';
import { requires } from '../support/requires.js';
import { mappingsOf } from '../support/resources.js';

function memoryFault(signal: 'SIGBUS' | 'SIGSEGV', page: number): Error {
  return expect.objectContaining({ code: 'ERR_MEMORY_FAULT', signal, page }) as Error;
}

test('an access waits in its fault without stopping the event loop', async (context) => {
  requires(context, 'uffd');
  const { mapping, uffd } = registeredAnonymous(1);
  const reading = mapping.read(0, 4, { signal: deadline() });
  const fault = await nextFault(uffd);
  uffd.copy(fault, filled('f'));
  expect((await reading).toString()).toBe('ffff');
});

test('an abort ends an access that waits in a fault, promptly and with its own reason', async (context) => {
  requires(context, 'uffd');
  const { mapping, uffd } = registeredAnonymous(1);
  for (const start of [
    (signal: AbortSignal) => mapping.read(0, 4, { signal }),
    (signal: AbortSignal) => mapping.write(0, filled(1, 4), { signal }),
    (signal: AbortSignal) => mapping.touch(0, PAGE, { signal, write: true }),
  ]) {
    const controller = new AbortController();
    const access = start(controller.signal);
    const rejected = expect(access).rejects.toThrow('enough');
    await nextFault(uffd);
    controller.abort(new Error('enough'));
    await within(rejected, 'the aborted access', 1000);
  }
});

test('50 accesses that wait at once, aborted together', async (context) => {
  requires(context, 'uffd');
  const { mapping, uffd } = registeredAnonymous(50);
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  const accesses = Array.from({ length: 50 }, (_, page) => mapping.read(page * PAGE, 1, { signal: controller.signal }));
  const settled = Promise.allSettled(accesses);
  const waiting = new Set<number>();
  for await (const fault of uffd.events({ signal: deadline() })) {
    if (fault.type === 'pagefault') waiting.add(fault.page);
    if (waiting.size === 50) break;
  }
  controller.abort('all of them');
  const results = await within(settled, 'the aborted accesses', 2000);
  expect(results).toEqual(Array.from({ length: 50 }, () => ({ status: 'rejected', reason: 'all of them' })));
});

test('an abort in the same breath as the access, a thousand times', async (context) => {
  requires(context, 'uffd');
  const { mapping } = registeredAnonymous(1);
  for (let round = 0; round < 20; round++) {
    const accesses = Array.from({ length: 50 }, () => {
      const controller = new AbortController();
      const access = mapping.read(0, 1, { signal: controller.signal });
      controller.abort('at once');
      return access;
    });
    const results = await within(Promise.allSettled(accesses), `round ${round}`);
    expect(results.every((result) => result.status === 'rejected' && result.reason === 'at once')).toBe(true);
  }
});

test('a signal that is aborted already starts nothing', async () => {
  const mapping = mappingOf(memfdOf(1));
  await expect(mapping.write(0, filled(1), { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow(
    'before',
  );
  expect(await mapping.read(0, 1)).toEqual(filled(0, 1));
});

test('an abort after the end changes nothing', async () => {
  const controller = new AbortController();
  const mapping = mappingOf(memfdOf(1));
  const bytes = await mapping.read(0, 1, { signal: controller.signal });
  controller.abort();
  expect(bytes).toEqual(filled(0, 1));
});

test('SIGBUS beyond the end of a truncated memfd is a value with its page', async () => {
  const memfd = memfdOf(4);
  const mapping = mappingOf(memfd);
  memfd.resize(2 * PAGE);
  expect(await mapping.read(0, 2 * PAGE)).toHaveLength(2 * PAGE);
  await expect(mapping.read(0, 4 * PAGE)).rejects.toThrow(memoryFault('SIGBUS', 2));
  await expect(mapping.write(3 * PAGE, filled(1, 1))).rejects.toThrow(memoryFault('SIGBUS', 3));
  await expect(mapping.touch()).rejects.toBeInstanceOf(MemoryFaultError);
});

test('SIGSEGV of protected memory is a value with its page', async () => {
  const mapping = anonymousMapping(4);
  mapping.protect('none', PAGE, PAGE);
  await expect(mapping.read(0, 4 * PAGE)).rejects.toThrow(memoryFault('SIGSEGV', 1));
  mapping.protect('read');
  expect(await mapping.read(PAGE, 1)).toEqual(filled(0, 1));
  await expect(mapping.write(2 * PAGE + 5, filled(1, 1))).rejects.toThrow(memoryFault('SIGSEGV', 2));
  mapping.protect('readwrite');
  await mapping.write(2 * PAGE, filled(1, 1));
  await expect(anonymousMapping(1, { protection: 'none' }).touch()).rejects.toThrow(memoryFault('SIGSEGV', 0));
});

test('SIGBUS of a poisoned page is a value with its page', async (context) => {
  requires(context, 'uffd-poison', 'uffd-minor');
  const { mapping, uffd, region } = registeredMemfd(4);
  const reading = mapping.read(2 * PAGE, 1, { signal: deadline() });
  const rejected = expect(reading).rejects.toThrow(memoryFault('SIGBUS', 2));
  const fault = await nextFault(uffd);
  expect(uffd.poison(fault)).toEqual({ kind: 'installed', bytes: PAGE });
  await rejected;
  // The rest of the mapping goes on.
  uffd.copy({ region, page: 3 }, filled('3'));
  expect((await mapping.read(3 * PAGE, 1)).toString()).toBe('3');
});

test('unmap during an access that waits is safe, the pages stay until it ends', async (context) => {
  requires(context, 'uffd-minor');
  const name = 'unmapped-while-read';
  const memfd = memfdOf(1, name);
  const mapping = Mapping.map(memfd);
  const { uffd } = registeredAnonymous(1);
  const region = uffd.register(mapping, ['missing', 'minor']);
  const reading = mapping.read(0, 3, { signal: deadline() });
  await nextFault(uffd);
  mapping.unmap();
  expect(mappingsOf(name)).toBe(1);
  uffd.copy({ region, page: 0 }, filled('u'));
  expect((await reading).toString()).toBe('uuu');
  await expect.poll(() => mappingsOf(name)).toBe(0);
});

test('unmap in the middle of many large reads', async () => {
  for (let round = 0; round < 20; round++) {
    const mapping = anonymousMapping(1024);
    const reads = Array.from({ length: 4 }, () => mapping.read(0, 1024 * PAGE));
    mapping.unmap();
    for (const bytes of await Promise.all(reads)) expect(bytes).toHaveLength(1024 * PAGE);
  }
});

test('SIGBUS and SIGSEGV of many threads at once stay apart', async () => {
  const memfd = memfdOf(64);
  const mapping = mappingOf(memfd);
  memfd.resize(32 * PAGE);
  mapping.protect('none', 0, 16 * PAGE);
  const outcomes = await Promise.allSettled(Array.from({ length: 64 }, (_, page) => mapping.read(page * PAGE, PAGE)));
  const kinds = outcomes.map((outcome) =>
    outcome.status === 'rejected' ? (outcome.reason as MemoryFaultError) : 'read',
  );
  for (const [page, kind] of kinds.entries()) {
    if (page >= 16 && page < 32) expect(kind).toBe('read');
    else expect(kind).toMatchObject({ signal: page < 16 ? 'SIGSEGV' : 'SIGBUS', page });
  }
});

// No more memory for this process, but its mapping is there.
const unreadable = `
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Mapping } from 'userfaultfd';
const mapping = Mapping.anonymous(3 * 2 ** 30);
await mapping.read(0, 1);
const kib = Number(/^VmSize:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
execFileSync('prlimit', ['--pid', process.pid, '--as=' + (kib * 1024 + 2 ** 29)]);
const outcome = await mapping.read(0, mapping.lengthBytes).then(String, ({ code, syscall }) => code + ' ' + syscall);
console.log(outcome, (await mapping.read(0, 1)).length);
`;

test('a read of more than there is memory for is ENOMEM', async (context) => {
  requires(context, 'prlimit');
  const result = await runProgram(process.execPath, ['--input-type=module', '-e', unreadable], 15_000);
  expect(expectCleanExit(result)).toBe('ENOMEM malloc 1\n');
});

test('small reads and large ones are the same Buffers', async () => {
  const mapping = mappingOf(memfdOf(512));
  await mapping.write(0, filled(7, 512 * PAGE));
  for (const length of [0, 1, 2 ** 20 - 1, 2 ** 20, 512 * PAGE]) {
    const bytes = await mapping.read(0, length);
    expect(Buffer.isBuffer(bytes)).toBe(true);
    expect(bytes.equals(filled(7, length))).toBe(true);
  }
});

test('the native layer refuses pages of no bytes and accesses it does not know', () => {
  const [PROT_READ, MAP_PRIVATE_ANONYMOUS] = [1, 0x22];
  const mapping = new (native().Mapping)(-1, 0, PAGE, PROT_READ, MAP_PRIVATE_ANONYMOUS);
  expect(() => mapping.access(AccessKind.touchRead, 0, 1, 0, undefined, () => undefined)).toThrow(/argument 3 must be/);
  expect(() => mapping.access(4, 0, 1, PAGE, undefined, () => undefined)).toThrow(/argument 0 must be/);
});
