// What /proc/self/fdinfo says of a userfaultfd, without a call on the descriptor itself.
import { readFileSync, readlinkSync } from 'node:fs';
import { UffdError } from '../errors.js';

const O_NONBLOCK = 0o4000;
/** In the features once UFFDIO_API is done. */
const API_DONE = 1n << 31n;

export interface Fdinfo {
  readonly nonBlocking: boolean;
  readonly apiDone: boolean;
  /** Those it was opened with. */
  readonly features: bigint;
  /** Messages not read yet, and these with the read ones whose fault is not resolved. */
  readonly pending: number;
  readonly total: number;
}

/** @throws UffdError ERR_INVALID_ARGUMENT for a descriptor that is not a userfaultfd */
export function readFdinfo(fd: number): Fdinfo {
  let link: string;
  try {
    link = readlinkSync(`/proc/self/fd/${fd}`);
  } catch (error) {
    throw new UffdError('ERR_INVALID_ARGUMENT', `${fd} is not an open descriptor`, { cause: error });
  }
  if (link !== 'anon_inode:[userfaultfd]') {
    throw new UffdError('ERR_INVALID_ARGUMENT', `the descriptor is not a userfaultfd but ${link}`);
  }
  return parseFdinfo(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
}

/** What is missing, or not as the kernel writes it, counts as nothing: UFFDIO_API not done, no flags, no messages. */
export function parseFdinfo(text: string): Fdinfo {
  const field = (pattern: RegExp) => pattern.exec(text)?.[1] ?? '0';
  const features = BigInt(`0x${field(/^API:[\t ]*aa:([0-9a-f]{1,16}):[0-9a-f]{1,16}$/m)}`);
  return {
    nonBlocking: (parseInt(field(/^flags:[\t ]*([0-7]{1,11})$/m), 8) & O_NONBLOCK) !== 0,
    apiDone: (features & API_DONE) !== 0n,
    features: features & ~API_DONE,
    pending: Number(field(/^pending:[\t ]*(\d{1,15})$/m)),
    total: Number(field(/^total:[\t ]*(\d{1,15})$/m)),
  };
}
