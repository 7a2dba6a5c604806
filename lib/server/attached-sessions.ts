// What the main thread knows of every session: which worker has it, and what it takes to give it to another one.
import { EventEmitter } from 'node:events';
import { fstatSync } from 'node:fs';
import { KernelError, UffdError, messageOf } from '../errors.js';
import { native } from '../native/load.js';
import type { AttachMessage, FromServing } from './messages.js';
import type { WorkerHandle } from './worker-handle.js';

export interface AttachedSession {
  worker: WorkerHandle;
  /** Its descriptors are the worker's: open for as long as that has not said that the session is over. */
  message: AttachMessage;
  /** Of the client's process; those of one process are held together. */
  readonly pid: number | undefined;
  readonly pidfd: number;
  /** Of its userfaultfd. */
  readonly ino: bigint;
  /** Device and inode of the memory that is written to, if it is. */
  readonly memory: string | undefined;
  readonly settled: { readonly resolve: () => void; readonly reject: (error: Error) => void };
  /** From the worker: its slot there, and the descriptor of its page states. Undefined until it has them. */
  place: { readonly slot: number; readonly states: number } | undefined;
  parked: string | undefined;
  /** What the worker has been told since, to be told to the next one as well. */
  readonly told: ('orphaned' | 'release')[];
}

/**
 * Of every server here: each message of a userfaultfd is read once, so it can be that of one session only. By inode: every
 * userfaultfd has its own (Linux 5.12).
 */
const served = new Map<bigint, number>();
/** Of every server here: at the addresses of one's client, the same process can hand over other memory to another one. */
const everywhere = new Set<AttachedSessions>();

type Told = Extract<FromServing, { session: number }>;

/** `over`: there is one less. */
export class AttachedSessions extends EventEmitter<{ over: [] }> {
  readonly #all = new Map<number, AttachedSession>();

  get size(): number {
    return this.#all.size;
  }

  numbers(): number[] {
    return [...this.#all.keys()];
  }

  of(worker: WorkerHandle): AttachedSession[] {
    return [...this.#all.values()].filter((session) => session.worker === worker);
  }

  get(session: number): AttachedSession | undefined {
    return this.#all.get(session);
  }

  /** Hands it to the worker. Resolves once that serves it. @throws UffdError ERR_WORKER_FAILED, ERR_HANDOFF_REFUSED */
  async add(
    worker: WorkerHandle,
    message: AttachMessage,
    { pid, pidfd }: { pid: number | undefined; pidfd: number },
  ): Promise<void> {
    const ino = inodeOf(message);
    const other = served.get(ino);
    if (other !== undefined) {
      close([message.userfaultfd, message.memory]);
      throw new UffdError(
        'ERR_HANDOFF_REFUSED',
        `the userfaultfd is that of session ${other}, which is served already`,
      );
    }
    const memory = memoryOf(message);
    for (const sessions of everywhere) sessions.#releaseThoseBefore(message, pid);
    const same = [...everywhere].map((sessions) => sessions.#ofSameMemory(message, memory)).find((one) => one >= 0);
    if (same !== undefined) {
      close([message.userfaultfd, message.memory]);
      throw new UffdError(
        'ERR_HANDOFF_REFUSED',
        `that part of the memory is filled for session ${same} already: what was written to it would be lost`,
      );
    }
    served.set(ino, message.session);
    everywhere.add(this);
    worker.sessions++;
    await new Promise<void>((resolve, reject) => {
      const settled = { resolve, reject };
      this.#all.set(message.session, {
        worker,
        message,
        pid,
        pidfd,
        ino,
        memory,
        settled,
        place: undefined,
        parked: undefined,
        told: [],
      });
      if (worker.send(message)) return;
      this.#remove(message.session, this.#all.get(message.session)!);
      close([message.userfaultfd, message.memory]);
      reject(new UffdError('ERR_WORKER_FAILED', 'the serving worker has ended'));
    });
  }

  tell(session: number, type: 'orphaned' | 'release'): void {
    const attached = this.#all.get(session);
    attached?.told.push(type);
    attached?.worker.send({ type, session });
  }

  /** What a worker says of a session: the session, and whether this is news, not said of it by another worker before. */
  heard(message: Told): { attached: AttachedSession | undefined; news: boolean } {
    const attached = this.#all.get(message.session);
    let news = true;
    if (attached === undefined) return { attached, news };
    switch (message.type) {
      case 'attached':
        news = attached.message.moved === undefined;
        attached.place = { slot: message.slot, states: message.states };
        attached.settled.resolve();
        break;
      case 'refused':
        this.#remove(message.session, attached);
        attached.settled.reject(new UffdError('ERR_HANDOFF_REFUSED', message.error));
        break;
      case 'detached':
        this.#remove(message.session, attached);
        break;
      case 'parked':
        attached.parked = message.reason;
    }
    return { attached, news };
  }

  /** The worker serves none of its sessions any more: they may be handed over again, to another server. */
  fail(worker: WorkerHandle, why: Error): void {
    for (const { ino, settled } of this.of(worker)) {
      served.delete(ino);
      settled.reject(why);
    }
  }

  /** Nobody serves them any more. */
  clear(why: Error): void {
    for (const { settled, ino } of this.#all.values()) {
      served.delete(ino);
      settled.reject(why);
    }
    this.#all.clear();
    everywhere.delete(this);
    this.emit('over');
  }

  /**
   * Gives those sessions of a worker that is held to another one: as many as there are descriptors for, and none when the
   * worker has come back. How many, and what keeps the others.
   */
  move(
    from: WorkerHandle,
    to: WorkerHandle,
    moving: readonly AttachedSession[],
  ): { count: number; problem: string | undefined } {
    const { copies, problem } = duplicates(moving);
    const all = new Set(moving.slice(0, copies.length));
    const kept = this.of(from).filter((session) => !all.has(session));
    const given = all.size === 0 ? undefined : from.take(kept.map(({ message }) => message.session));
    if (given === undefined) {
      for (const { userfaultfd, memory, states } of copies) close([userfaultfd, memory, states]);
      return { count: 0, problem };
    }
    for (const [i, attached] of [...all].entries()) {
      const { states, ...descriptors } = copies[i]!;
      const { place, parked, told, message } = attached;
      // Of one that the worker has not come to, what there was before.
      const before = place === undefined ? message.moved?.given : given.get(place.slot);
      const moved = { states, given: before ?? [], parked, orphaned: told.includes('orphaned') };
      attached.message = { ...message, ...descriptors, ...(states >= 0 && { moved }) };
      from.sessions--;
      if (from.holders.delete(message.session)) to.holders.add(message.session);
      to.sessions++;
      attached.worker = to;
      attached.place = undefined;
      to.send(attached.message);
      for (const type of told) to.send({ type, session: message.session });
    }
    return { count: all.size, problem };
  }

  /** Memory of a process where it had other memory, whose connection it has closed: that one is no more. */
  #releaseThoseBefore({ regions }: AttachMessage, pid: number | undefined): void {
    for (const [session, { message, pid: of, told }] of this.#all) {
      if (pid === undefined || of !== pid || !told.includes('orphaned')) continue;
      if (overlap('start', message.regions, regions)) this.tell(session, 'release');
    }
  }

  /** Who has pages of that memory filled too: each of them would write over what the other one's client has written. */
  #ofSameMemory({ regions }: AttachMessage, memory: string | undefined): number {
    for (const [session, attached] of this.#all) {
      if (memory === undefined || attached.memory !== memory || attached.told.length > 0) continue;
      if (overlap('offset', attached.message.regions, regions)) return session;
    }
    return -1;
  }

  #remove(session: number, attached: AttachedSession): void {
    attached.worker.sessions--;
    attached.worker.holders.delete(session);
    served.delete(attached.ino);
    this.#all.delete(session);
    if (this.size === 0) everywhere.delete(this);
    this.emit('over');
  }
}

interface Copies {
  readonly userfaultfd: number;
  readonly memory: number;
  readonly states: number;
}

function inodeOf({ userfaultfd, memory }: AttachMessage): bigint {
  try {
    return fstatSync(userfaultfd, { bigint: true }).ino;
  } catch (error) {
    close([userfaultfd, memory]);
    throw error;
  }
}

type Regions = AttachMessage['regions'];

/** Whether they have addresses in common, or parts of the memory. */
function overlap(by: 'start' | 'offset', some: Regions, others: Regions): boolean {
  return some.some((one) => others.some((other) => one[by] < other[by] + other.size && other[by] < one[by] + one.size));
}

/** A guest_memfd is that of one VM: it has no inode that could be told from others' on every kernel. */
function memoryOf({ memory, resident, kind }: AttachMessage): string | undefined {
  if (memory < 0 || resident || kind === 'guest_memfd') return undefined;
  const { dev, ino } = fstatSync(memory, { bigint: true });
  return `${dev}:${ino}`;
}

/** Of as many of them as there are descriptors for. */
function duplicates(sessions: readonly AttachedSession[]): { copies: Copies[]; problem: string | undefined } {
  const copies: Copies[] = [];
  try {
    for (const { message, place } of sessions) {
      const of = place?.states ?? message.moved?.states ?? -1;
      const [userfaultfd, memory, states] = duplicate([message.userfaultfd, message.memory, of]);
      copies.push({ userfaultfd: userfaultfd!, memory: memory!, states: states! });
    }
  } catch (error) {
    // The others stay where they are.
    return { copies, problem: messageOf(error) };
  }
  return { copies, problem: undefined };
}

function duplicate(fds: readonly number[]): number[] {
  const copies: number[] = [];
  for (const fd of fds) {
    const copy = fd < 0 ? -1 : native().duplicateFd(fd);
    if (fd >= 0 && copy < 0) {
      close(copies);
      throw new KernelError(copy, 'dup');
    }
    copies.push(copy);
  }
  return copies;
}

function close(fds: readonly number[]): void {
  // The last one of a userfaultfd waits for the lock of its client.
  for (const fd of fds) if (fd >= 0) native().closeDetached(fd);
}
