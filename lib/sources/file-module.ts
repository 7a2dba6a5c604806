// The file source inside a worker: what is in the page cache at once, the rest when the disk has brought it.
import { readFileSync } from 'node:fs';
import { KernelError, UffdError } from '../errors.js';
import type { NativeSourceFile } from '../native/contract.js';
import { native } from '../native/load.js';
import type { PageSource } from '../server/page-source.js';
import type { FileSourceData } from './file.js';
import { Holes } from './holes.js';

/** Less than this and a lease could be taken away between the check and the answer. */
const LEAST_LEASE_BREAK_SECONDS = 5;

export function openSource(data: FileSourceData, where: 'serving' | 'fetching'): PageSource {
  return new FileSource(data, where);
}

/** What is asked about at once where one part follows closely upon another: a call into the kernel for many. */
const LOOK_AHEAD_BYTES = 256 * 1024;

/**
 * While it holds a read lease on the file (fcntl(2), F_SETLEASE), nobody can change it: its pages are shown straight
 * from a mapping. Otherwise, and at its partial last page, they are read into a buffer and checked before they are shown.
 */
class FileSource implements PageSource {
  readonly #file: NativeSourceFile;
  readonly #data: FileSourceData;
  readonly #serving: boolean;
  /** Address of the mapping; 0 without a lease. */
  #mapping = 0;
  #lostLease = false;
  /** Where what was asked for last ends, and up to where the page cache is known to have what comes after it. */
  #askedEnd = -LOOK_AHEAD_BYTES;
  #residentEnd = 0;
  extentOf?: NonNullable<PageSource['extentOf']>;

  constructor(data: FileSourceData, where: 'serving' | 'fetching') {
    this.#data = data;
    this.#serving = where === 'serving';
    // An open file of its own, because a lease belongs to one: this worker gives it back when it shows nothing.
    this.#file = new (native().SourceFile)(`/proc/self/fd/${data.fd}`);
    if (this.#file.error() < 0) throw new KernelError(this.#file.error(), 'open', `/proc/self/fd/${data.fd}`);
    const [sizeBytes, , , device, inode, mtimeNs] = this.#file.identity();
    const same = sizeBytes === data.sizeBytes && mtimeNs === data.mtimeNs;
    if (!same || device !== data.device || inode !== data.inode) {
      throw new UffdError('ERR_SOURCE_CHANGED', 'the file changed while the server was starting');
    }
    if (!this.#serving) return;
    if (data.hold) this.#hold();
    // tmpfs notes no store through a mapping: only while nobody can store is a hole one.
    if (data.holes.length > 0 && (!data.inMemory || this.#mapping !== 0)) {
      const holes = new Holes(data.holes, data.sizeBytes);
      this.extentOf = holes.extentOf.bind(holes);
    }
  }

  addressNow(length: number, offset: number): number {
    if (this.#mapping === 0 || offset + length > this.#data.sizeBytes) return 0;
    return this.#resident(offset, length) ? this.#mapping + offset : 0;
  }

  #resident(offset: number, length: number): boolean {
    const gap = offset - this.#askedEnd;
    const follows = gap >= 0 && gap < LOOK_AHEAD_BYTES;
    const end = offset + length;
    this.#askedEnd = end;
    if (follows && end <= this.#residentEnd) return true;
    this.#residentEnd = 0;
    const ahead = Math.min(LOOK_AHEAD_BYTES, this.#data.sizeBytes - offset);
    if (!follows || ahead <= length || !this.#file.resident(offset, ahead)) return this.#file.resident(offset, length);
    this.#residentEnd = offset + ahead;
    return true;
  }

  readNow(target: Uint8Array, targetOffset: number, length: number, offset: number): boolean {
    // Short, or an errno: not all of it is in the page cache, the file system cannot tell, or the file is not what it
    // was. Whatever it is, `read` finds out.
    return this.#file.read(target, targetOffset, length, offset, !this.#data.inMemory) === length;
  }

  read(target: Uint8Array, targetOffset: number, length: number, offset: number): void {
    const read = this.#file.read(target, targetOffset, length, offset, false);
    if (read < 0) throw new KernelError(read, 'pread', `${length} bytes at ${offset} of the source`);
    if (read < length || !this.unchanged()) {
      throw new UffdError('ERR_SOURCE_CHANGED', 'the source has changed since it was opened');
    }
  }

  unchanged(): boolean {
    // tmpfs notes neither a store through a mapping nor, in time, a hole: a writer there means that nothing is known.
    if (this.#data.inMemory && this.#lostLease) return false;
    // Without a lease the modification time may have been set back; under one, unlink and rename are harmless. What a
    // fetch worker reads is shown by a serving worker, whose answer to this counts.
    return this.#file.unchanged(this.#serving && this.#mapping === 0);
  }

  held(): boolean {
    // The answers are given: what the page cache has when the next are planned is asked anew.
    this.#askedEnd = -LOOK_AHEAD_BYTES;
    return this.#mapping !== 0 && this.#file.held();
  }

  /** Somebody wants to write to the file: they wait until the lease is given back. */
  tick(): void {
    if (this.#mapping === 0 || this.#file.held()) return;
    this.#lostLease = true;
    this.#letGo();
  }

  close(): void {
    this.#letGo();
    this.#file.close();
  }

  // Where it is not to be had (a writer, another owner, a file system without leases) pages are read instead.
  #hold(): void {
    if (leaseBreakSeconds() < LEAST_LEASE_BREAK_SECONDS) return;
    const address = this.#file.hold();
    if (address > 0) this.#mapping = address;
  }

  #letGo(): void {
    if (this.#mapping === 0) return;
    this.#mapping = 0;
    this.#file.letGo();
  }
}

/** 0 on a kernel without leases (CONFIG_FILE_LOCKING). */
function leaseBreakSeconds(): number {
  try {
    return Number(readFileSync('/proc/sys/fs/lease-break-time', 'utf8'));
  } catch {
    return 0;
  }
}
