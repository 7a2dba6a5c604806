// What one worker leaves and another goes on with: a page that is shown is never written to again.
import { expect, it, onTestFinished } from 'vitest';
import { memoryKinds } from 'userfaultfd';
import { Answer, AnswerOp } from '../../dist/native/contract.js';
import { AnswerBlock, givenAnswers } from '../../dist/server/answer-block.js';
import type { MovedStates } from '../../dist/server/messages.js';
import { PageState } from '../../dist/server/page-states.js';
import { Session } from '../../dist/server/session.js';
import { Counter } from '../../dist/server/session-counters.js';
import { duplicate } from '../support/native.js';
import { PAGE } from './support.js';

const START = 0x7f0000000000;
const { absent, fetching, resident, zero, removed, poisoned } = PageState;

function sessionOf(slot: number, moved?: MovedStates): Session {
  const session = new Session({
    id: 1,
    slot,
    kind: memoryKinds.shmem,
    fill: 'continue',
    backed: false,
    writable: true,
    pageSize: PAGE,
    // Two regions, apart from each other.
    regions: [
      { start: START, size: 8 * PAGE, offset: 0 },
      { start: START + 64 * PAGE, size: 8 * PAGE, offset: 8 * PAGE },
    ],
    attention: new Set(),
    ...(moved && { moved }),
  });
  onTestFinished(() => {
    session.states.close();
  });
  return session;
}

it('what was given is there, what was not is absent, and all else is as it was', () => {
  const before = sessionOf(3);
  const answers = new AnswerBlock();
  const [one, other] = before.regions as [(typeof before.regions)[0], (typeof before.regions)[0]];
  before.states.bytes.set([resident, zero, removed, poisoned, absent, fetching, fetching, fetching]);
  before.states.set(8, 8, fetching);
  before.counters[Counter.faults] = 7;

  const give = (result: number) => {
    answers.values[(answers.count - 1) * Answer.fields + Answer.result] = result;
  };
  answers.addWrite(before, one, 5, 1, -1, 4096);
  give(PAGE);
  answers.add(AnswerOp.continue, before, one, 5, 1, -1);
  give(PAGE);
  answers.add(AnswerOp.zeropage, before, one, 6, 1, -1);
  give(PAGE);
  // Written and not shown yet.
  answers.addWrite(before, one, 7, 1, -1, 4096);
  give(PAGE);
  answers.add(AnswerOp.continue, before, one, 7, 1, -1);
  answers.addCopy(before, other, 8, 4, -1, 4096);
  give(3 * PAGE);
  answers.addCopy(before, other, 12, 2, -1, 4096);
  give(-11);
  // Of another session, at the same addresses.
  answers.addCopy(sessionOf(4), other, 14, 2, -1, 4096);
  give(2 * PAGE);
  // Of a batch before this one.
  answers.addCopy(before, other, 14, 2, -1, 4096);
  give(2 * PAGE);
  const given = givenAnswers(answers.values, answers.count - 1).get(3)!;

  const moved = { given, parked: 'a reason', orphaned: false };
  const after = sessionOf(0, { ...moved, states: duplicate(before.states.fd) });
  after.goOn({ ...moved, states: -1 });
  before.states.leave();
  before.states.set(0, 16, poisoned);
  expect([...after.states.bytes]).toEqual([
    ...[resident, zero, removed, poisoned, absent, resident, zero, absent],
    ...[resident, resident, resident, absent, absent, absent, absent, absent],
  ]);
  expect(after.counters[Counter.faults]).toBe(7);
  expect(after.parked).toBe('a reason');
});
