// The fault queue through its contract: rows of answers, rows of events, one call for both.
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { beforeEach, expect, test } from 'vitest';
import { pageEntries } from '../../dist/index.js';
import { Answer, EventKind, Held, QueueControl } from '../../dist/native/contract.js';
import { native } from '../../dist/native/load.js';
import { expectCleanExit, runProgram } from '../support/child.js';
import { deadline, milliseconds } from '../support/deadline.js';
import { PAGE, type Setup, anonymousMapping, filled, registeredMemfd, userfaultfd } from '../support/memory.js';
import { type AnswerRow, Queue, duplicate } from '../support/native.js';
import { compiled } from '../support/programs.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

const EBADF = -9;
const EFAULT = -14;
const EEXIST = -17;
const EINVAL = -22;
const ECANCELED = -125;

beforeEach((context) => {
  requires(context, 'uffd-minor', 'uffd-poison');
});

interface Served extends Setup {
  readonly queue: Queue;
  readonly slot: number;
  /** A row for a page. */
  readonly row: (op: AnswerRow['op'], page: number, more?: Partial<AnswerRow>) => AnswerRow;
}

function served(pages: number): Served {
  const setup = registeredMemfd(pages);
  const queue = new Queue();
  const slot = queue.native.add(duplicate(setup.uffd.fd), duplicate(setup.memfd.fd), 1);
  const row: Served['row'] = (op, page, more) => ({
    slot,
    op,
    start: setup.mapping.address + BigInt(page * PAGE),
    length: PAGE,
    ...more,
  });
  return { ...setup, queue, slot, row };
}

/** Bytes whose address an answer can name. */
function sharedBytes(value: number, pages = 1): { bytes: Uint8Array; address: number } {
  const bytes = new Uint8Array(new SharedArrayBuffer(pages * PAGE)).fill(value);
  return { bytes, address: native().addressOf(bytes) };
}

test('a fault is a row, and its answer goes with the next wait', async () => {
  const { mapping, queue, slot, row } = served(4);
  expect(slot).toBe(0);
  const { bytes, address } = sharedBytes(7);
  const reading = mapping.read(2 * PAGE, 1, { signal: deadline() });
  const { count, events } = queue.answerAndWait();
  expect(count).toBe(1);
  const start = Number(mapping.address) + 2 * PAGE;
  expect(events).toEqual([{ slot, kind: EventKind.pagefault, flags: 0, start, end: 0, extra: 0 }]);
  const after = queue.answerAndWait([row('copy', 2, { source: address })], 10);
  expect(after).toEqual({ results: [PAGE], count: 0, events: [] });
  expect((await reading)[0]).toBe(bytes[0]);
});

test('every operation, each with its result in its row', async () => {
  const { memfd, mapping, queue, row } = served(8);
  const { address } = sharedBytes(1);
  memfd.write(filled(2), PAGE);
  const { inFull, results } = queue.answer([
    row('copy', 0, { source: address }),
    row('continue', 1),
    row('zeropage', 2),
    row('poison', 3),
    row('write', 4, { source: address, offset: 4 * PAGE }),
    row('continue', 4),
    row('wake', 0, { length: 8 * PAGE }),
  ]);
  expect(results).toEqual([PAGE, PAGE, PAGE, PAGE, PAGE, PAGE, 8 * PAGE]);
  expect(inFull).toBe(true);
  const first = async (page: number) => (await mapping.read(page * PAGE, 1, { signal: deadline() }))[0];
  expect([await first(0), await first(1), await first(2), await first(4)]).toEqual([1, 2, 0, 1]);
  await expect(first(3)).rejects.toMatchObject({ signal: 'SIGBUS', page: 3 });
  expect(queue.answer([row('unregister', 0, { length: 8 * PAGE })]).results).toEqual([8 * PAGE]);
  expect(await first(7)).toBe(0);
});

test('unprotect takes write protection away', async () => {
  const mapping = anonymousMapping(1);
  const uffd = userfaultfd(['pagefaultFlagWp']);
  const region = uffd.register(mapping, ['missing', 'wp']);
  uffd.copy({ region, page: 0 }, filled(1), { writeProtect: true });
  const queue = new Queue();
  const slot = queue.native.add(duplicate(uffd.fd), -1, 1);
  const writing = mapping.write(0, filled(2, 1), { signal: deadline() });
  expect(queue.answerAndWait().events).toMatchObject([{ kind: EventKind.pagefault, flags: 3 }]);
  expect(queue.answer([{ slot, op: 'writeProtect', start: mapping.address, length: PAGE }]).results).toEqual([PAGE]);
  await writing;
});

test.each<[string, Partial<AnswerRow>, number]>([
  ['the page is there', { op: 'zeropage' }, EEXIST],
  ['nothing in the page cache', { op: 'continue', start: 1n }, EFAULT],
  ['a source that cannot be read', { op: 'copy', start: 1n, source: 4096 }, EFAULT],
  ['an unaligned length', { op: 'zeropage', length: 100 }, EINVAL],
  ['an unknown operation', { op: 'future' as 'copy' }, EINVAL],
  ['a slot that never was', { op: 'wake', slot: 5 }, EBADF],
  ['a negative slot', { op: 'wake', slot: -1 }, EBADF],
])('an errno in the row: %s', (_, more, errno) => {
  const { mapping, uffd, region, queue, row } = served(2);
  uffd.zeropage({ region, page: 0 });
  // `start` 1n stands for the page that is absent.
  const start = mapping.address + (more.start ?? 0n) * BigInt(PAGE);
  const { inFull, results } = queue.answer([{ ...row('wake', 0), ...more, start }]);
  expect(results).toEqual([errno]);
  expect(inFull).toBe(false);
});

test('write without a memory descriptor is EBADF', () => {
  const { uffd, mapping } = registeredMemfd(1);
  const queue = new Queue();
  const slot = queue.native.add(duplicate(uffd.fd), -1, 1);
  const { address } = sharedBytes(1);
  const row: AnswerRow = { slot, op: 'write', start: mapping.address, length: PAGE, source: address };
  expect(queue.answer([row]).results).toEqual([EBADF]);
});

test('partial progress is bytes, and the batch is not in full', () => {
  const { uffd, region, queue, row } = served(4);
  uffd.zeropage({ region, page: 2 });
  const { inFull, results } = queue.answer([row('zeropage', 0, { length: 4 * PAGE })]);
  expect(results).toEqual([2 * PAGE]);
  expect(inFull).toBe(false);
});

test('link: what follows a failure is cancelled, link by link', () => {
  const { queue, row } = served(4);
  const { address } = sharedBytes(1);
  const link = { mode: Answer.link };
  const { results } = queue.answer([
    row('continue', 0, link),
    row('wake', 0, link),
    row('wake', 0),
    row('write', 1, { source: address, offset: PAGE, ...link }),
    row('continue', 1),
  ]);
  expect(results).toEqual([EFAULT, ECANCELED, ECANCELED, PAGE, PAGE]);
});

test('link: not in full is a failure too', () => {
  const { uffd, region, queue, row } = served(4);
  uffd.zeropage({ region, page: 1 });
  const { results } = queue.answer([row('zeropage', 0, { length: 2 * PAGE, mode: Answer.link }), row('wake', 0)]);
  expect(results).toEqual([PAGE, ECANCELED]);
});

test('link does not hide the mode: dontWake stays', async () => {
  const { mapping, queue, row } = served(1);
  let woken = false;
  const touching = mapping.touch(0, 1, { signal: deadline() }).then(() => (woken = true));
  queue.answerAndWait();
  expect(queue.answer([row('zeropage', 0, { mode: Answer.link + 1 })]).results).toEqual([PAGE]);
  await delay(30);
  expect(woken).toBe(false);
  queue.answer([row('wake', 0)]);
  await touching;
});

test('an answer that is not in full does not wait', () => {
  const { queue, row } = served(1);
  const before = performance.now();
  const { results, count } = queue.answerAndWait([row('continue', 0)], milliseconds(2000));
  expect(results).toEqual([EFAULT]);
  expect(count).toBe(0);
  expect(performance.now() - before).toBeLessThan(milliseconds(500));
});

test('the wake descriptor ends a wait, from before and from another thread', async () => {
  const queue = new Queue();
  const woken = { slot: -1, kind: EventKind.woken, flags: 0, start: 0, end: 0, extra: 0 };
  native().signalEvent(queue.native.wakeFd());
  native().signalEvent(queue.native.wakeFd());
  expect(queue.answerAndWait().events).toEqual([woken]);
  expect(queue.answerAndWait([], 0).count).toBe(0);
  const { Worker } = await import('node:worker_threads');
  const ringer = new Worker(new URL('../support/ringer.mjs', import.meta.url), { workerData: queue.native.wakeFd() });
  await new Promise((resolve) => ringer.once('message', resolve));
  expect(queue.answerAndWait([], milliseconds(2000)).events).toEqual([woken]);
  await ringer.terminate();
});

test('the timeout holds, spinning or not', () => {
  const queue = new Queue();
  for (const spinUs of [0, 20_000]) {
    const before = performance.now();
    expect(queue.answerAndWait([], 30, spinUs).count).toBe(0);
    const took = performance.now() - before;
    expect(took).toBeGreaterThanOrEqual(29);
    expect(took).toBeLessThan(milliseconds(1000));
  }
});

test('slots: several, used again, and none of a closed one', async () => {
  const { queue, slot } = served(1);
  const [other, third] = [registeredMemfd(1), registeredMemfd(1)];
  expect(queue.native.add(duplicate(other.uffd.fd), -1, 1)).toBe(slot + 1);
  const touching = other.mapping.touch(0, 1, { signal: deadline() });
  expect(queue.answerAndWait().events).toMatchObject([{ slot: slot + 1, start: Number(other.mapping.address) }]);
  expect(queue.native.remove(slot)).toBe(0);
  expect(queue.native.remove(slot)).toBe(EBADF);
  expect(queue.native.mute(slot)).toBe(EBADF);
  expect(queue.native.add(duplicate(third.uffd.fd), -1, 1)).toBe(slot);
  expect(queue.answer([{ slot: 1, op: 'zeropage', start: other.mapping.address, length: PAGE }]).results).toEqual([PAGE]);
  await touching;
});

test('a muted slot is heard no more but can be answered', async () => {
  const { mapping, queue, slot, row } = served(1);
  expect(queue.native.mute(slot)).toBe(0);
  expect(queue.native.mute(slot)).toBe(0);
  const touching = mapping.touch(0, 1, { signal: deadline() });
  expect(queue.answerAndWait([], 50).count).toBe(0);
  expect(queue.answer([row('zeropage', 0)]).results).toEqual([PAGE]);
  await touching;
  expect(queue.native.remove(slot)).toBe(0);
});

test('remove closes both descriptors, and so does an add that fails', async () => {
  const { queue, slot } = served(1);
  const before = openDescriptors();
  queue.native.remove(slot);
  expect(openDescriptors()).toBe(before - 2);
  const { memfd } = registeredMemfd(1);
  const now = openDescriptors();
  // A memfd cannot be waited for: epoll says EPERM.
  expect(queue.native.add(duplicate(memfd.fd), duplicate(memfd.fd), 1)).toBe(-1);
  // The first one on a thread of its own.
  await expect.poll(openDescriptors).toBe(now);
});

test('more messages than rows: the rest comes with the next waits', async () => {
  const setup = registeredMemfd(16);
  const queue = new Queue(4);
  const slot = queue.native.add(duplicate(setup.uffd.fd), -1, 1);
  const signal = deadline();
  const touching = Promise.all(Array.from({ length: 16 }, (_, page) => setup.mapping.touch(page * PAGE, 1, { signal })));
  const pages = new Set<number>();
  for (let tries = 0; tries < 100 && pages.size < 16; tries++) {
    const { count, events } = queue.answerAndWait();
    expect(count).toBeLessThanOrEqual(4);
    for (const { start } of events) pages.add((start - Number(setup.mapping.address)) / PAGE);
  }
  expect(pages.size).toBe(16);
  queue.answer([{ slot, op: 'zeropage', start: setup.mapping.address, length: 16 * PAGE }]);
  await touching;
});

test('alive: while the address space is there', () => {
  const { queue, slot } = served(1);
  expect(queue.native.alive(slot)).toBe(1);
  expect(queue.native.alive(77)).toBeLessThan(0);
});

test('closed: answers and waits are EBADF, closing again is harmless', () => {
  const { queue, row } = served(1);
  const before = openDescriptors();
  queue.native.close();
  queue.native.close();
  // epoll, eventfd, timer, userfaultfd, memfd.
  expect(openDescriptors()).toBe(before - 5);
  expect(queue.answer([row('zeropage', 0)]).results).toEqual([EBADF]);
  const many = row('copy', 0, { length: 2 ** 20 });
  expect(queue.answer([many, many]).results).toEqual([EBADF, EBADF]);
  expect(queue.answerAndWait([], 10).count).toBe(EBADF);
  expect(queue.native.wakeFd()).toBe(-1);
});

test('large fills, given by two threads: each result in its row, links kept, every byte right', async () => {
  const large = 64;
  const fills = 24;
  for (let round = 0; round < 8; round++) {
    const { uffd, region, mapping, queue, row } = served(fills * large);
    const length = large * PAGE;
    // One of them falls short in its middle, one at its start; what is linked to a write goes with it.
    uffd.zeropage({ region, page: 3 * large + 5 });
    uffd.zeropage({ region, page: 6 * large });
    const sources = Array.from({ length: fills }, (_, fill) => sharedBytes(1 + fill, large));
    const rows = sources.flatMap(({ address: source }, fill) => {
      const page = fill * large;
      const shown = row('continue', page, { length });
      if (fill % 2 === 0) return [row('copy', page, { length, source })];
      if (fill === 9) return [row('write', page, { length, source: 1, offset: page * PAGE, mode: Answer.link }), shown];
      if (fill === 3) return [row('copy', page, { length, source })];
      return [row('write', page, { length, source, offset: page * PAGE, mode: Answer.link }), shown];
    });
    const { inFull, results } = queue.answer(rows);
    expect(inFull).toBe(false);
    const expected = rows.map(({ start, op }) => {
      const fill = Number(start - mapping.address) / length;
      if (fill === 3) return 5 * PAGE;
      if (fill === 6) return EEXIST;
      if (fill === 9) return op === 'write' ? EFAULT : ECANCELED;
      return length;
    });
    expect(results).toEqual(expected);
    for (let fill = 0; fill < fills; fill++) {
      if ([3, 6, 9].includes(fill)) continue;
      const bytes = await mapping.read(fill * length, length, { signal: deadline() });
      expect(bytes.every((byte) => byte === 1 + fill)).toBe(true);
    }
  }
});

test('taken away: no answer is begun and no message is read, until it is given back', async () => {
  const { mapping, queue, slot, row } = served(3);
  const { address } = sharedBytes(7, 3);
  const reading = [0, 1].map((page) => mapping.read(page * PAGE, 1, { signal: deadline() }));
  const [first] = queue.answerAndWait().events;
  const page = (first!.start - Number(mapping.address)) / PAGE;
  Atomics.store(queue.control, QueueControl.held, Held.taken);
  const rows = [row('copy', page, { source: address }), row('wake', page)];
  expect(queue.answerAndWait(rows)).toEqual({ results: [-4, -4], count: 0, events: [] });
  // Of many bytes, which are shared with the second thread.
  const many = [row('write', 0, { mode: Answer.link, source: address, length: 2 * PAGE }), row('continue', 0)];
  expect(queue.answer(many)).toEqual({ inFull: false, results: [-4, -125] });
  expect(queue.native.alive(slot)).toBe(-4);
  expect(queue.native.unregisteredBefore(slot, Number(mapping.address), PAGE, 3)).toBe(-4);
  expect(pageEntries(mapping).some(({ present }) => present)).toBe(false);

  const calls = queue.control[QueueControl.ownerCalls]!;
  Atomics.store(queue.control, QueueControl.held, Held.free);
  expect(queue.answerAndWait([row('copy', page, { source: address })], 10).results).toEqual([PAGE]);
  queue.answer([row('copy', 1 - page, { source: address })]);
  await Promise.all(reading);
  expect(queue.control[QueueControl.ownerCalls]).toBe(calls + 2);
  expect(queue.control[QueueControl.ownerCall]).toBe(0);
});

test('the calls are counted in 32 bits, again and again', () => {
  const { queue, slot } = served(1);
  queue.control[QueueControl.ownerCalls] = 2 ** 31 - 1;
  expect(queue.native.alive(slot)).toBe(1);
  expect(queue.control[QueueControl.ownerCalls]).toBe(-(2 ** 31));
});

test('asked, the owner of the queue waits for the decision', async () => {
  const { mapping, queue, row } = served(1);
  const { address } = sharedBytes(7);
  const reading = mapping.read(0, 1, { signal: deadline() });
  queue.answerAndWait();
  Atomics.store(queue.control, QueueControl.held, Held.asked);
  const free = `setTimeout(() => Atomics.store(require('worker_threads').workerData, ${QueueControl.held}, 0), 100)`;
  const worker = new Worker(free, { eval: true, workerData: queue.control });
  expect(queue.answer([row('copy', 0, { source: address })]).results).toEqual([PAGE]);
  expect(queue.control[QueueControl.held]).toBe(Held.free);
  await reading;
  await worker.terminate();
});

test('a read that a client can make wait is a call on that client', async (context) => {
  requires(context, 'cc');
  const script = join(import.meta.dirname, 'as-opened.mjs');
  const EOPNOTSUPP = 95;
  const command = [`-${EOPNOTSUPP}`, process.execPath, script];
  const result = await runProgram(compiled(join(import.meta.dirname, '../probe/seccomp.c')), command, 15_000);
  expect(JSON.parse(expectCleanExit(result))).toEqual({
    first: { calls: 1, pages: [0] },
    taken: { calls: 1, pages: [] },
    given: { calls: 1, pages: [1] },
    inCall: 0,
  });
});
