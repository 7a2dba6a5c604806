// Telling received descriptors apart without calling into them: a client can send one of a file system of its own
// (FUSE) on which even fstat(2) and close(2) hang.
import { readFileSync, readlinkSync } from 'node:fs';
import { UffdError } from '../errors.js';
import { Memfd, Seal } from '../memory/memfd.js';
import { native } from '../native/load.js';
import { readFdinfo } from '../userfaultfd/fdinfo.js';
import { Feature, featureNames } from '../userfaultfd/features.js';

const O_ACCMODE = 0o3;
/** Features whose events a server has no answer to. */
const UNSERVED = Feature.eventFork | Feature.eventRemap | Feature.sigbus;

function refuse(reason: string): never {
  throw new UffdError('ERR_HANDOFF_REFUSED', reason);
}

function linkOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`);
}

function openFlags(fdinfo: string): number {
  return parseInt(/^flags:\s*([0-7]+)/m.exec(fdinfo)?.[1] ?? '0', 8);
}

/** @throws UffdError ERR_HANDOFF_REFUSED unless it is a userfaultfd this server can answer for */
export function checkUserfaultfd(fd: number): void {
  const link = linkOf(fd);
  if (link !== 'anon_inode:[userfaultfd]') refuse(`the first descriptor is not a userfaultfd but ${link}`);
  const { nonBlocking, apiDone, features } = readFdinfo(fd);
  if (!nonBlocking) refuse('the userfaultfd is blocking: open it with O_NONBLOCK');
  if (!apiDone) refuse('UFFDIO_API has not been done on the userfaultfd');
  const unserved = features & UNSERVED;
  if (unserved !== 0n)
    refuse(`the userfaultfd has features that are not served: ${[...featureNames(unserved)].join(', ')}`);
}

/** The memory behind the mappings, and whether the server may write to it. */
export interface CheckedMemory {
  readonly file: 'memfd' | 'guest_memfd';
  readonly writable: boolean;
  readonly pageSize: number;
  readonly sizeBytes: number;
}

/**
 * Checks the second descriptor. Only memory that its owner has sealed against shrinking is ever written: writing would let
 * it grow again. A guest_memfd has no seals, and never another size. It is not sealed here: F_ADD_SEALS takes the inode's lock, which a client can hold for as long as it
 * likes (with a write to the memfd from memory that nobody serves), and we would be as unkillable as it is stuck.
 * @param trusted whether the peer could not do worse than to name a file like a guest_memfd
 * @throws UffdError ERR_HANDOFF_REFUSED unless it is a memfd or a guest_memfd
 */
export function checkMemory(fd: number, trusted: boolean): CheckedMemory {
  const mask = native().sealsOf(fd);
  const file = mask >= 0 ? 'memfd' : 'guest_memfd';
  if (mask < 0 && !isGuestMemfd(linkOf(fd), trusted)) {
    refuse(`the second descriptor is neither a memfd nor a guest_memfd but ${linkOf(fd)}`);
  }
  const duplicate = native().duplicateFd(fd);
  if (duplicate < 0) refuse('too many open files in the server');
  using memfd = Memfd.adopt(duplicate);
  const sealed =
    file === 'guest_memfd' || ((mask & Seal.shrink) !== 0 && (mask & (Seal.write | Seal.futureWrite)) === 0);
  const readOnly = (openFlags(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) & O_ACCMODE) === 0;
  return { file, writable: sealed && !readOnly, pageSize: memfd.pageSize, sizeBytes: memfd.sizeBytes };
}

/**
 * By its name: all that can be asked of it without calling into a file system. Up to Linux 6.18 no file can have it; from
 * 6.19 on it is that of a deleted file, which somebody with a mount namespace of his own could make.
 */
function isGuestMemfd(link: string, trusted: boolean): boolean {
  return link === 'anon_inode:[kvm-gmem]' || (trusted && link === '/[kvm-gmem] (deleted)');
}
