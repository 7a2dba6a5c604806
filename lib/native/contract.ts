// The written contract with native/: what the addon exports. Numbers below zero are negative errnos; addresses are
// plain numbers (user addresses are below 2^53). lib/ checks arguments before it calls; native/ only guards itself.

import type { NativeKvmClasses } from './kvm-contract.js';

/** Memory whose address a call uses: on a SharedArrayBuffer, which cannot be detached meanwhile. */
type Bytes = Uint8Array | Float64Array | Uint32Array;

export interface NativeMemfd {
  fd(): number;
  close(): void;
  setSize(bytes: number): number;
  /** [size, allocated bytes, page size] */
  status(): [number, number, number] | number;
  addSeals(seals: number): number;
  getSeals(): number;
  punchHole(offset: number, bytes: number): number;
  allocate(offset: number, bytes: number): number;
  /** lseek(2): the next data or hole at or after the offset. */
  seek(offset: number, data: boolean): number;
  write(bytes: Uint8Array, offset: number): number;
  writeFromFile(fileFd: number, fileOffset: number, bytes: number, offset: number): number;
}

/** What `access` does, in the order of native AccessRequest::Kind. */
export const AccessKind = { read: 0, write: 1, touchRead: 2, touchWrite: 3 } as const;
/** How an access ended, in the order of native AccessOutcome::Kind. */
export const AccessOutcome = { done: 0, fault: 1, cancelled: 2, noMemory: 3 } as const;

export interface NativeMapping {
  error(): number;
  address(): number;
  unmap(): void;
  /** Unmapping it can wait for ever: a thread nobody waits for does it, unless `unmap` finds that nothing uses the pages. */
  setRegistered(): void;
  protect(offset: number, length: number, protection: number): number;
  advise(offset: number, length: number, advice: number): number;
  mincore(offset: number, length: number, pages: Uint8Array): number;
  /** Moves the pages to another address; -EBUSY while an access or a view uses them. */
  relocate(): number;
  setPolicy(offset: number, length: number, mode: number, nodes: bigint, flags: number): number;
  policy(offset: number): [mode: number, nodes: bigint] | number;
  view(offset: number, length: number): ArrayBuffer | undefined;
  detachViews(): void;
  access(
    kind: number,
    offset: number,
    length: number,
    pageSize: number,
    bytes: Uint8Array | undefined,
    callback: (outcome: number, signal: number, siCode: number, address: number, bytes: Buffer | undefined) => void,
  ): (() => void) | number;
}

export interface NativeUserfaultfd {
  fd(): number;
  close(): void;
  handshake(features: bigint): [features: bigint, ioctls: bigint] | number;
  register(start: number, length: number, mode: number): bigint | number;
  unregister(start: number, length: number): number;
  /** Gives rows of answers (`Answer`) in order; their slots do not matter. */
  answer(rows: Float64Array): void;
  setMode(enable: bigint, disable: bigint): number;
  read(buffer: Uint8Array): number;
  /** 1 when the address space behind the descriptor lives, 0 when it is gone. */
  alive(): number;
}

/** A row of the answer block: native Answer::Field, Answer::Op and Answer::kLink. */
export const Answer = {
  slot: 0,
  op: 1,
  mode: 2,
  start: 3,
  length: 4,
  source: 5,
  offset: 6,
  result: 7,
  fields: 8,
  link: 2 ** 31,
} as const;
export const AnswerOp = {
  continue: 0,
  copy: 1,
  zeropage: 2,
  poison: 3,
  wake: 4,
  writeProtect: 5,
  write: 6,
  unregister: 7,
  move: 8,
  rwProtect: 9,
} as const;

/** A row of the event block: native Event::Field. */
export const EventRow = { slot: 0, kind: 1, flags: 2, start: 3, end: 4, extra: 5, fields: 6 } as const;
/** uffd_msg.event, and what the queue itself reports. */
export const EventKind = {
  woken: 1,
  descriptorError: 2,
  /** Every 250 ms, whatever else comes. */
  tick: 3,
  pagefault: 0x12,
  fork: 0x13,
  remap: 0x14,
  remove: 0x15,
  unmap: 0x16,
} as const;

/**
 * The control block of `answerAndWait`: rows to answer; the time-out in ms, -1 for the queue's own; microseconds to poll
 * before sleeping; and the result: rows of events, or a negative errno.
 */
export const QueueControl = {
  rowsToAnswer: 0,
  timeoutMs: 1,
  spinUs: 2,
  rowsRead: 3,
  /** How many calls on a client the owner of the queue has begun, and for whom the one is that it is in: 0 for none. */
  ownerCalls: 4,
  ownerCall: 5,
  /** The same of the thread that shares its work. */
  secondCalls: 6,
  secondCall: 7,
  /** `Held`. */
  held: 8,
  /** Not 0: giving the last answers took longer than a second. */
  tookLong: 9,
  fields: 10,
} as const;

/** Says whether what a thread serves is taken away while it is in a call: native/os/call_watch.h. */
export const Held = { free: 0, asked: 1, taken: 2 } as const;

/** In `ownerCall`: it waits for the other thread. */
export const WAITS_FOR_SECOND = -1;

export interface NativeFaultQueue {
  error(): number;
  /** An eventfd; signalEvent() on it from any thread ends a wait. Owned by the queue. */
  wakeFd(): number;
  /** Takes over both descriptors. The slot. `client`, from 1 to 2 ** 31 - 1, stands in the control block during calls. */
  add(userfaultfd: number, memory: number, client: number): number;
  remove(slot: number): number;
  mute(slot: number): number;
  alive(slot: number): number;
  register(slot: number, start: number, length: number, mode: number): bigint | number;
  /**
   * How many of `count` pages, `stride` bytes apart, come before the first that is registered with a userfaultfd, whichever
   * it is, of the address space behind the slot. -ESRCH when that is gone.
   */
  unregisteredBefore(slot: number, start: number, stride: number, count: number): number;
  answer(rows: number): boolean;
  /** Reads and writes the control block: `QueueControl`. */
  answerAndWait(): void;
  close(): void;
}

export interface NativeUnixSocket {
  fd(): number;
  close(): void;
  /** The same on a thread nobody waits for: closing what a client has sent can take for ever. */
  closeDetached(): void;
  accept(): number;
  receive(buffer: Uint8Array): [bytes: number, controlTruncated: boolean, ...descriptors: number[]] | number;
  send(bytes: Uint8Array, descriptors: number[]): number;
  peer(): [pid: number, uid: number, gid: number, pidfd: number] | number;
}

export interface NativeSourceFile {
  error(): number;
  identity(): [
    size: number,
    regular: boolean,
    inMemory: boolean,
    device: bigint,
    inode: bigint,
    mtimeNs: bigint,
    fd: number,
  ];
  /** Where the file reads as zeroes without having bytes: start and end of at most so many holes, one after the other. */
  holes(limit: number): number[];
  unchanged(strictly: boolean): boolean;
  read(target: Uint8Array, targetOffset: number, bytes: number, fileOffset: number, cachedOnly: boolean): number;
  /** The address of a mapping of the whole file, which nobody can change until `held` says no. */
  hold(): number;
  held(): boolean;
  letGo(): void;
  resident(offset: number, length: number): boolean;
  close(): void;
}

export interface NativeFdWatcher {
  close(): void;
}

export interface NativeTouchThreads {
  /** Of starting the threads; then the callback never comes. */
  error(): number;
  progress(): number;
  cancel(): void;
}

export interface NativeReferenceHandler {
  error(): number;
  messages(): number;
  stop(): void;
}

/** What the threads of a bounce do, in the order of native BouncePlan::Work. */
export const BounceWork = { fill: 0, bounce: 1, verify: 2 } as const;

/** What a page says of itself, in the first eight bytes of every line: change, page and line, from the top. */
export const BounceLine = { lineBits: 16n, pageBits: 24n } as const;

export interface NativeBounceThreads {
  /** Of starting the threads; then the callback never comes. */
  error(): number;
  progress(): number;
  /** They end after the page they are at. */
  finish(): void;
  cancel(): void;
}

export interface NativeBlockingReader {
  error(): number;
  /** 0 when no message has come for a while. */
  read(buffer: Uint8Array): number;
  close(): void;
}

export interface NativeAddon extends NativeKvmClasses {
  Memfd: { new (fd: number): NativeMemfd; create(name: string, flags: number): number; createSecret(): number };
  Mapping: new (fd: number, offset: number, length: number, protection: number, flags: number) => NativeMapping;
  Userfaultfd: {
    new (fd: number): NativeUserfaultfd;
    open(userModeOnly: boolean): [fd: number, deviceErrno: number];
  };
  FaultQueue: new (answers: Float64Array, events: Float64Array, control: Int32Array) => NativeFaultQueue;
  UnixSocket: {
    new (fd: number): NativeUnixSocket;
    listen(path: string, backlog: number): number;
    connect(path: string): number;
    pair(): [number, number] | number;
  };
  SourceFile: new (pathOrFd: string | number) => NativeSourceFile;
  FdWatcher: new (fd: number, callback: (status: number) => void) => NativeFdWatcher;
  TouchThreads: new (
    mapping: NativeMapping,
    pageSize: number,
    order: Uint32Array,
    threads: number,
    write: boolean,
    countFaults: boolean,
    cpus: number[],
    callback: (
      touched: number,
      faulted: number,
      elapsedNs: number,
      latenciesNs: Uint32Array,
      outcome: number,
      signal: number,
      siCode: number,
      address: number,
    ) => void,
  ) => NativeTouchThreads;
  ReferenceHandler: new (
    userfaultfds: number[],
    starts: Float64Array,
    lengths: Float64Array,
    pageSize: number,
    pagesPerAnswer: number,
    sourceFd: number,
    cpus: number[],
  ) => NativeReferenceHandler;
  BounceThreads: new (
    mapping: NativeMapping,
    work: number,
    pageSize: number,
    order: Uint32Array,
    changes: Uint32Array,
    threads: number,
    racing: boolean,
    callback: (
      visits: number,
      wrongPages: number,
      page: number,
      line: number,
      expected: bigint,
      found: bigint,
      outcome: number,
      signal: number,
      siCode: number,
      address: number,
    ) => void,
  ) => NativeBounceThreads;
  /** Clears O_NONBLOCK, and takes over the descriptor; of the thread that made it. */
  BlockingReader: new (userfaultfd: number) => NativeBlockingReader;
  closeFd(fd: number): void;
  closeDetached(fd: number): void;
  duplicateFd(fd: number): number;
  sealsOf(fd: number): number;
  signalEvent(fd: number): number;
  /** PAGEMAP_SCAN: a pm_scan_arg (12 words) and room for page_regions (3 words each). The regions filled. */
  scanPages(pagemapFd: number, request: BigUint64Array, regions: BigUint64Array): number;
  sendSignal(pidfd: number, signal: number): number;
  /** Ends the process after so long, whatever its threads are at. */
  exitWithin(milliseconds: number, status: number): number;
  setAffinity(cpus: number[]): number;
  affinity(): number[];
  pageSize(): number;
  addressOf(bytes: Bytes): number;
  /** A system call by its name, for `uffd probe`: numbers as they are, typed arrays as pointers to their bytes. */
  systemCall(name: string, ...args: (number | NodeJS.TypedArray)[]): number;
  /** A child that reads the byte at an address and exits with 0, or for address 0 waits; killed when this thread ends. */
  forkChild(touch: number): number;
}
