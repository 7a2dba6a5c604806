// The addon itself, as lib/native/contract.ts describes it, for tests below the library.
import { onTestFinished } from 'vitest';
import { Answer, AnswerOp, EventKind, EventRow, QueueControl } from '../../dist/native/contract.js';
import type { NativeFaultQueue, NativeUnixSocket } from '../../dist/native/contract.js';
import { native } from '../../dist/native/load.js';
import { milliseconds } from './deadline.js';

export interface AnswerRow {
  slot: number;
  op: keyof typeof AnswerOp;
  start: bigint;
  length: number;
  mode?: number;
  source?: number;
  offset?: number;
}

/** A FaultQueue with its blocks, answers and events as objects; the ticks of the queue are left out. */
export class Queue {
  readonly native: NativeFaultQueue;
  readonly #answers: Float64Array;
  readonly #events: Float64Array;
  readonly control = new Int32Array(new SharedArrayBuffer(QueueControl.fields * 4));

  constructor(rows = 64) {
    this.#answers = new Float64Array(new SharedArrayBuffer(rows * Answer.fields * 8));
    this.#events = new Float64Array(new SharedArrayBuffer(rows * EventRow.fields * 8));
    this.native = new (native().FaultQueue)(this.#answers, this.#events, this.control);
    onTestFinished(() => {
      this.native.close();
    });
  }

  /** Gives the answers and waits; the results of the answers and the events. */
  answerAndWait(rows: AnswerRow[] = [], timeoutMs = milliseconds(2000), spinUs = 0) {
    this.#put(rows);
    const until = performance.now() + timeoutMs;
    this.control.set([rows.length, timeoutMs, spinUs]);
    for (;;) {
      this.native.answerAndWait();
      const read = this.control[QueueControl.rowsRead]!;
      const events = this.#eventRows(read).filter(({ kind }) => kind !== EventKind.tick);
      const left = Math.ceil(until - performance.now());
      if (read <= 0 || events.length > 0 || left <= 0) {
        return { results: this.#results(rows), count: read < 0 ? read : events.length, events };
      }
      this.control.set([0, left, spinUs]);
    }
  }

  answer(rows: AnswerRow[]) {
    this.#put(rows);
    const inFull = this.native.answer(rows.length);
    return { inFull, results: this.#results(rows) };
  }

  #put(rows: AnswerRow[]): void {
    for (const [index, row] of rows.entries()) {
      const { slot, op, mode = 0, start, length, source = 0, offset = 0 } = row;
      this.#answers.set(
        [slot, AnswerOp[op], mode, Number(start), length, source, offset, 12345],
        index * Answer.fields,
      );
    }
  }

  #results(rows: AnswerRow[]): number[] {
    return rows.map((_, index) => this.#answers[index * Answer.fields + Answer.result]!);
  }

  #eventRows(count: number) {
    return Array.from({ length: Math.max(0, count) }, (_, index) => {
      const field = (name: keyof typeof EventRow) => this.#events[index * EventRow.fields + EventRow[name]]!;
      return {
        slot: field('slot'),
        kind: field('kind'),
        flags: field('flags'),
        start: field('start'),
        end: field('end'),
        extra: field('extra'),
      };
    });
  }
}

/** A copy of a descriptor for an object that takes it over. */
export function duplicate(fd: number): number {
  const copy = native().duplicateFd(fd);
  if (copy < 0) throw new Error(`duplicateFd: ${copy}`);
  return copy;
}

/** Two ends of a connection, closed when the test ends. */
export function socketPair(): [NativeUnixSocket, NativeUnixSocket] {
  const pair = native().UnixSocket.pair();
  if (typeof pair === 'number') throw new Error(`socketpair: ${pair}`);
  const ends = pair.map((fd) => new (native().UnixSocket)(fd)) as [NativeUnixSocket, NativeUnixSocket];
  onTestFinished(() => {
    for (const end of ends) end.close();
  });
  return ends;
}
