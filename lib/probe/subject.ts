// A userfaultfd under examination: every verb with its raw result, nothing refused beforehand, nothing interpreted.
import { setTimeout as delay } from 'node:timers/promises';
import type { AnswerName, RegisterModeName } from '../memory/kinds/kind.js';
import { Answer, AnswerOp, type NativeUserfaultfd } from '../native/contract.js';
import { native } from '../native/load.js';
import { type FaultEvent, MESSAGE_BYTES, decodeMessage } from '../userfaultfd/events.js';
import { registerMask } from '../userfaultfd/features.js';
import { Userfaultfd } from '../userfaultfd/userfaultfd.js';

/** Memory of this process: a `Mapping`, or a range without an object. */
export interface Range {
  readonly address: bigint;
  readonly lengthBytes: number;
  readonly pageSize: number;
}

/** Where and how much, in pages of the mapping. */
export interface Span {
  readonly page?: number;
  readonly pages?: number;
}

export interface AnswerParts extends Span {
  /** The mode bits of the ioctl. */
  readonly mode?: number;
  /** Source bytes of COPY. */
  readonly bytes?: Uint8Array;
  /** Source address of MOVE, or of COPY instead of bytes. */
  readonly source?: number;
}

const operations: Record<Exclude<AnswerName, 'rwprotect' | 'writeprotect'>, number> & Record<string, number> = {
  copy: AnswerOp.copy,
  continue: AnswerOp.continue,
  zeropage: AnswerOp.zeropage,
  poison: AnswerOp.poison,
  wake: AnswerOp.wake,
  move: AnswerOp.move,
  writeprotect: AnswerOp.writeProtect,
  rwprotect: AnswerOp.rwProtect,
};

const POLL_MS = 1;

export class Subject {
  readonly #native: NativeUserfaultfd;
  readonly #patience: number;

  /** @param patience as of the scene */
  constructor(descriptor: NativeUserfaultfd, patience: number) {
    this.#native = descriptor;
    this.#patience = patience;
  }

  get fd(): number {
    return this.#native.fd();
  }

  handshake(features: bigint): [bigint, bigint] | number {
    return this.#native.handshake(features);
  }

  /** The mask of ioctls, or a negative errno. */
  register(mapping: Range, modes: readonly RegisterModeName[], span: Span = {}): bigint | number {
    const { start, length } = rangeOf(mapping, span, mapping.lengthBytes);
    return this.#native.register(start, length, registerMask(modes));
  }

  /** @throws when it fails: for what another probe asks about */
  registered(mapping: Range, modes: readonly RegisterModeName[], span?: Span): void {
    const mask = this.register(mapping, modes, span);
    if (mask < 0) throw new Error(`UFFDIO_REGISTER of ${modes.join('|')} failed with errno ${-Number(mask)}`);
  }

  unregister(mapping: Range): number {
    return this.#native.unregister(Number(mapping.address), mapping.lengthBytes);
  }

  /** Bytes done, or a negative errno. */
  answer(name: AnswerName, mapping: Range, parts: AnswerParts = {}): number {
    const { start, length } = rangeOf(mapping, parts, mapping.pageSize);
    const row = new Float64Array(Answer.fields);
    row[Answer.op] = operations[name]!;
    row[Answer.mode] = parts.mode ?? 0;
    row[Answer.start] = start;
    row[Answer.length] = length;
    const bytes = parts.bytes ?? new Uint8Array(name === 'copy' ? length : 0).fill(0x63);
    row[Answer.source] = parts.source ?? native().addressOf(bytes);
    this.#native.answer(row);
    return row[Answer.result]!;
  }

  setMode(enable: bigint, disable: bigint): number {
    return this.#native.setMode(enable, disable);
  }

  /** Messages that wait now: at most 64. */
  read(): FaultEvent[] {
    const buffer = new Uint8Array(64 * MESSAGE_BYTES);
    const view = new DataView(buffer.buffer);
    const count = Math.max(0, this.#native.read(buffer));
    return Array.from({ length: count }, (_, index) =>
      decodeMessage(view, index * MESSAGE_BYTES, {
        regionAt: () => undefined,
        adoptChild: (fd) => Userfaultfd.adopt(fd),
      }),
    );
  }

  /** Waits until `count` messages have come, or the time is over. */
  async messages(count = 1, withinMs = 500): Promise<FaultEvent[]> {
    const until = performance.now() + withinMs * this.#patience;
    const messages = this.read();
    while (messages.length < count && performance.now() < until) {
      await delay(POLL_MS);
      messages.push(...this.read());
    }
    return messages;
  }

  /** Messages in the time given: for what should send none. */
  quiet(forMs = 20): Promise<FaultEvent[]> {
    return this.messages(1, forMs);
  }

  close(): void {
    this.#native.close();
  }
}

function rangeOf(mapping: Range, { page = 0, pages }: Span, otherwise: number): { start: number; length: number } {
  const start = Number(mapping.address) + page * mapping.pageSize;
  return { start, length: pages === undefined ? otherwise : pages * mapping.pageSize };
}
