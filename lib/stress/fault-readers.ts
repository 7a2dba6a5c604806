// The two ways a handler waits for faults: sleeping in epoll_wait(2) and in read(2).
import { KernelError, checked } from '../errors.js';
import { Answer, EventKind, EventRow, type NativeFaultQueue, QueueControl } from '../native/contract.js';
import { native } from '../native/load.js';
import type { HandlerData } from './messages.js';

export const ANSWER_ROWS = 512;
const EVENT_ROWS = 64;
const MESSAGE_BYTES = 32;
/** uffd_msg: event, arg.pagefault.flags, arg.pagefault.address. */
const MESSAGE = { event: 0, flags: 8, address: 16 } as const;

export interface StressReader extends Disposable {
  /** Gives the answers, waits for faults, puts them into `addresses` and `flags`; how many. Waits 250 ms at most. */
  answerAndWait(rows: number): number;
}

/** The blocks that a handler and its readers share. */
export class HandlerBlocks {
  readonly answers = new Float64Array(new SharedArrayBuffer(ANSWER_ROWS * Answer.fields * 8));
  readonly events = new Float64Array(new SharedArrayBuffer(EVENT_ROWS * EventRow.fields * 8));
  readonly control = new Int32Array(new SharedArrayBuffer(QueueControl.fields * 4));
  readonly addresses = new Float64Array(EVENT_ROWS);
  readonly flags = new Uint32Array(EVENT_ROWS);
}

function duplicate({ userfaultfd }: HandlerData): number {
  return checked(native().duplicateFd(userfaultfd), 'fcntl');
}

export class PollingReader implements StressReader {
  readonly #blocks: HandlerBlocks;
  readonly #queue: NativeFaultQueue;
  readonly #slot: number;

  constructor(data: HandlerData, queue: NativeFaultQueue, blocks: HandlerBlocks) {
    this.#blocks = blocks;
    this.#queue = queue;
    this.#slot = checked(queue.add(duplicate(data), -1, 1), 'epoll_ctl');
  }

  answerAndWait(rows: number): number {
    const { control, events, addresses, flags } = this.#blocks;
    control[QueueControl.rowsToAnswer] = rows;
    control[QueueControl.timeoutMs] = -1;
    this.#queue.answerAndWait();
    const read = checked(control[QueueControl.rowsRead]!, 'epoll_wait');
    let faults = 0;
    for (let at = 0; at < read * EventRow.fields; at += EventRow.fields) {
      const kind = events[at + EventRow.kind]!;
      if (kind === EventKind.descriptorError) throw new KernelError(-events[at + EventRow.flags]!, 'read');
      if (kind !== EventKind.pagefault) continue;
      addresses[faults] = events[at + EventRow.start]!;
      flags[faults++] = events[at + EventRow.flags]!;
    }
    return faults;
  }

  [Symbol.dispose](): void {
    this.#queue.remove(this.#slot);
  }
}

export class BlockingReader implements StressReader {
  readonly #blocks: HandlerBlocks;
  readonly #reader: InstanceType<ReturnType<typeof native>['BlockingReader']>;
  readonly #userfaultfd: InstanceType<ReturnType<typeof native>['Userfaultfd']>;
  readonly #messages = new DataView(new ArrayBuffer(EVENT_ROWS * MESSAGE_BYTES));

  constructor(data: HandlerData, blocks: HandlerBlocks) {
    this.#blocks = blocks;
    this.#userfaultfd = new (native().Userfaultfd)(duplicate(data));
    this.#reader = new (native().BlockingReader)(duplicate(data));
    checked(this.#reader.error(), 'timer_create');
  }

  answerAndWait(rows: number): number {
    const { answers, addresses, flags } = this.#blocks;
    this.#userfaultfd.answer(answers.subarray(0, rows * Answer.fields));
    const messages = this.#messages;
    // What an answer has come to may be what somebody waits for: then nobody must sleep on it.
    if (!this.#inFull(rows)) return 0;
    const read = checked(this.#reader.read(new Uint8Array(messages.buffer)), 'read', 'userfaultfd');
    let faults = 0;
    for (let at = 0; at < read * MESSAGE_BYTES; at += MESSAGE_BYTES) {
      if (messages.getUint8(at + MESSAGE.event) !== EventKind.pagefault) continue;
      addresses[faults] = Number(messages.getBigUint64(at + MESSAGE.address, true));
      flags[faults++] = Number(messages.getBigUint64(at + MESSAGE.flags, true));
    }
    return faults;
  }

  #inFull(rows: number): boolean {
    const { answers } = this.#blocks;
    for (let at = 0; at < rows * Answer.fields; at += Answer.fields) {
      if (answers[at + Answer.result] !== answers[at + Answer.length]) return false;
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.#reader.close();
    this.#userfaultfd.close();
  }
}
