// What becomes of a page whose answer fell short, by the errno: results that no kernel at hand can be made to give.
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { memoryKinds } from '../../dist/index.js';
import { Answer, AnswerOp } from '../../dist/native/contract.js';
import { AnswerBlock } from '../../dist/server/answer-block.js';
import { PageState } from '../../dist/server/page-states.js';
import { Session } from '../../dist/server/session.js';
import { Settling } from '../../dist/server/settling.js';
import { PAGE } from './support.js';

const [EAGAIN, ENOMEM, EFAULT, EEXIST] = [-11, -12, -14, -17];
const START = 2 ** 30;
const PAGES = 64;
let session: Session;
let answers: AnswerBlock;
let settling: Settling;
let draining: boolean;

beforeEach(() => {
  session = new Session({
    id: 1,
    slot: 0,
    kind: memoryKinds.shmem,
    fill: 'copy',
    backed: false,
    writable: false,
    pageSize: PAGE,
    regions: [{ start: START, size: PAGES * PAGE, offset: 0 }],
    attention: new Set(),
  });
  onTestFinished(() => {
    session.states.close();
  });
  answers = new AnswerBlock();
  const never = () => {
    throw new Error('not expected');
  };
  draining = false;
  settling = new Settling({
    answers,
    faultDeadlineMs: 10_000,
    measures: undefined,
    has: () => true,
    draining: () => draining,
    gone: never,
    poisoned: never,
    cannotPoison: never,
  });
});

/** COPY for a fault, with that result; the pages that are woken for it, and those that are tried again. */
function settled(
  result: number,
  { first = 7, pages = 1, demand = 7, held = false } = {},
): { woken: number[]; retried: number[] } {
  session.states.set(first, pages, PageState.fetching);
  answers.addCopy(session, session.regions[0]!, first, pages, demand, 4096);
  if (held) answers.hold(0);
  answers.values[Answer.result] = result;
  settling.settle();
  const woken: number[] = [];
  for (let row = 0; row < answers.count; row++) {
    expect(answers.op(row)).toBe(AnswerOp.wake);
    for (let at = 0; at < answers.length(row); at += PAGE) woken.push((answers.start(row) + at - START) / PAGE);
  }
  answers.clear();
  return { woken, retried: settling.retries.splice(0).map(({ page }) => page) };
}

// Linux 7.3 says so of a COPY beyond the end of shared memory that was cut off: whoever waits there has a SIGBUS to come.
test('ENOMEM: the waiter looks for itself; what comes back to it is tried again later, in turns', () => {
  for (let turn = 0; turn < 20; turn++) {
    expect(settled(ENOMEM)).toEqual({ woken: [7], retried: [] });
    // Beyond the end nobody comes back: nothing to poison at the deadline.
    expect(session.waiting.get(7)).toMatchObject({ asleep: false });
    expect(settled(ENOMEM)).toEqual({ woken: [], retried: [7] });
    expect(session.waiting.get(7)).toMatchObject({ asleep: true, attempts: 0 });
  }
  expect(session.states.bytes[7]).toBe(PageState.absent);
  expect(session.hopeless(7)).toBe(false);
  expect(settled(PAGE)).toEqual({ woken: [], retried: [] });
  expect(session.waiting.size).toBe(0);
  expect(session.states.bytes[7]).toBe(PageState.resident);
});

test('ENOMEM of several pages: the faulting one by itself, the others fault again', () => {
  expect(settled(ENOMEM, { first: 6, pages: 3 })).toEqual({ woken: [6, 7, 8], retried: [7] });
});

test('EAGAIN, nothing done: tried again, and nobody woken', () => {
  for (let turn = 0; turn < 3; turn++) expect(settled(EAGAIN)).toEqual({ woken: [], retried: [7] });
});

test('EFAULT: the waiter looks for itself, so often and not more', () => {
  for (let turn = 1; turn < 16; turn++) expect(settled(EFAULT)).toEqual({ woken: [7], retried: [] });
  expect(settled(EFAULT)).toEqual({ woken: [], retried: [] });
  expect(session.hopeless(7)).toBe(true);
});

// Of hugetlb it may mean that the pool is empty, and of shared memory that the page cache has something of its own.
test('EEXIST of a fill nobody asked for proves nothing: the page stays absent', () => {
  expect(settled(EEXIST, { demand: -1 })).toEqual({ woken: [], retried: [] });
  expect(session.states.bytes[7]).toBe(PageState.absent);
  expect(session.waiting.size).toBe(0);
});

test('... and is owed while the session is completed, until the deadline', () => {
  draining = true;
  for (let attempt = 0; attempt < 20; attempt++) settled(EEXIST, { demand: -1 });
  expect(session.waiting.get(7)).toMatchObject({ owed: true });
  expect(session.hopeless(7)).toBe(true);
  expect(session.states.bytes[7]).toBe(PageState.absent);
  settled(PAGE, { demand: -1 });
  expect(session.waiting.size).toBe(0);
  expect(session.states.bytes[7]).toBe(PageState.resident);
});

test('EFAULT: beyond the end of the memory, unless it was the file of the source that had no page', () => {
  settled(EFAULT, { demand: -1, held: true });
  expect(session.states.bytes[7]).toBe(PageState.absent);
  settled(EFAULT, { demand: -1 });
  expect(session.states.bytes[7]).toBe(PageState.removed);
});

test('two messages for one page in one batch: the second one had its answer', () => {
  session.states.set(7, 1, PageState.removed);
  for (const result of [PAGE, EEXIST]) {
    answers.add(AnswerOp.zeropage, session, session.regions[0]!, 7, 1, 7);
    answers.values[(answers.count - 1) * Answer.fields + Answer.result] = result;
  }
  settling.settle();
  expect(session.waiting.size).toBe(0);
  expect([answers.count, answers.op(0)]).toEqual([1, AnswerOp.wake]);
});
