// Every error the library raises: what the kernel says (KernelError) and what the library says (UffdError).
import { getSystemErrorMap } from 'node:util';

/** Codes of the library's own errors, each with what it means. The table in docs/errors.md is made from this one. */
export const errorCodes = {
  ERR_UNSUPPORTED_PLATFORM: 'Not Linux: userfaultfd exists nowhere else.',
  ERR_ADDON_NOT_FOUND: 'No compiled addon for this platform; the message says how to build it.',
  ERR_ADDON_LOAD: 'The addon is there but cannot be loaded.',
  ERR_CLOSED: 'The object was closed; its descriptor is not used again.',
  ERR_OUT_OF_RANGE: 'An offset, length, page or option is outside what is possible.',
  ERR_INVALID_ARGUMENT: 'An argument has the wrong type or an unknown value.',
  ERR_NOT_FOR_MEMORY: 'No kernel can do this to that kind of memory; the message says why.',
  ERR_FEATURE_MISSING: 'The kernel lacks a userfaultfd feature that was asked for; see `missing`.',
  ERR_MAPPING_REGISTERED:
    'No ArrayBuffer is given over a registered mapping: reading it could wait for its own reader.',
  ERR_MAPPING_VIEWED: 'A mapping with an ArrayBuffer over it cannot be registered.',
  ERR_MEMORY_FAULT: 'An access to memory raised SIGBUS or SIGSEGV: a poisoned, truncated or protected page.',
  ERR_WOULD_DEADLOCK: 'This thread would wait for an event that only it reads.',
  ERR_ALREADY_ITERATED: 'A userfaultfd has one consumer at a time.',
  ERR_HANDOFF_REFUSED:
    'The other side refused the mappings or descriptors, or did not answer in time; the message says which.',
  ERR_SERVER_GONE: 'The fault server went away while the mapping still needed it.',
  ERR_SOURCE_CHANGED: 'The source of the pages is not what it was when it was opened.',
  ERR_SOURCE_INVALID: 'The file cannot be served: empty, not a regular file, or not readable.',
  ERR_NO_MEMORY: 'What is to be held in memory does not fit into it.',
  ERR_RECORD_REFUSED: 'The working set was recorded of another snapshot, or the file is none; the message says why.',
  ERR_SOCKET_IN_USE: 'A live process listens at the socket path.',
  ERR_DRAIN_TIMEOUT: 'Sessions were still waiting for pages when the drain time was over.',
  ERR_WORKER_FAILED: 'A worker thread of the server ended unexpectedly.',
  ERR_VCPU_RUNNING: 'A vCPU is running: its state, and the memory slots of its VM, change only while it is not.',
  ERR_VCPU_STUCK: 'A vCPU did not stop in time: it waits in a page fault that nobody answers.',
  ERR_GUEST_MEMORY: 'The guest touched memory that cannot be had: poisoned, truncated, unmapped, or never served.',
  ERR_GUEST_MEMFD_REGISTRATION: 'This kernel registers no guest_memfd with userfaultfd.',
  ERR_GUEST_MEMFD_POLICY: 'This kernel takes a NUMA policy for guest_memfd, and ignores it.',
  ERR_GUEST_FAILED: 'The guest has crashed, has found wrong bytes, or did something the VMM does not know.',
  ERR_SNAPSHOT_INVALID: 'The snapshot is incomplete, corrupt, truncated, or of another version or machine.',
} as const;

/** One of `errorCodes`. */
export type ErrorCode = keyof typeof errorCodes;

/** An error of the library itself. Match on `code`, never on the message. */
export class UffdError extends Error {
  override readonly name = 'UffdError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** SIGBUS or SIGSEGV of an access by `mapping.read`, `write` or `touch`. `siCode` is siginfo_t's si_code. */
export class MemoryFaultError extends UffdError {
  readonly signal: 'SIGBUS' | 'SIGSEGV';
  readonly siCode: number;
  /** Page of the mapping whose access failed. */
  readonly page: number;

  constructor(signal: 'SIGBUS' | 'SIGSEGV', siCode: number, page: number) {
    super('ERR_MEMORY_FAULT', `${signal} (si_code ${siCode}) at page ${page} of the mapping`);
    this.signal = signal;
    this.siCode = siCode;
    this.page = page;
  }
}

// libuv has no names for these.
const otherErrnos: Record<number, [string, string]> = {
  [-43]: ['EIDRM', 'identifier removed'],
  [-133]: ['EHWPOISON', 'memory page has hardware error'],
  [-34]: ['ERANGE', 'numerical result out of range'],
  [-125]: ['ECANCELED', 'operation canceled'],
};

/** Name and text of a negative errno: `['EINVAL', 'invalid argument']`. */
export function errnoName(errno: number): [string, string] {
  return getSystemErrorMap().get(errno) ?? otherErrnos[errno] ?? [`E${-errno}`, 'unknown error'];
}

/** An errno of the kernel, shaped like Node's own system errors: `errno` is negative, `code` its name. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  readonly errno: number;
  readonly code: string;
  readonly syscall: string;

  /** @param detail where it happened and, when one is known, the remedy */
  constructor(errno: number, syscall: string, detail?: string) {
    const [code, text] = errnoName(errno);
    super(`${code}: ${text}, ${syscall}${detail === undefined ? '' : ` (${detail})`}`);
    this.errno = errno;
    this.code = code;
    this.syscall = syscall;
  }
}

/** Passes on what a native call returned, or throws the negative errno it is. */
export function checked<T>(returned: T, syscall: string, detail?: string): Exclude<T, undefined> {
  if (typeof returned === 'number' && returned < 0) throw new KernelError(returned, syscall, detail);
  return returned as Exclude<T, undefined>;
}

/** One line for people: the message of an error, whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
