// How probes reach the kernel: everything goes through here, so that a test can answer in its place.
import { readFileSync } from 'node:fs';
import { errnoName } from '../errors.js';
import type { NativeUserfaultfd } from '../native/contract.js';
import type { NativeKvmVcpu, NativeKvmVm } from '../native/kvm-contract.js';
import { native } from '../native/load.js';

export type CallArgument = number | NodeJS.TypedArray;

export interface Kernel {
  /** A system call by name; a negative errno when it fails. */
  systemCall(name: string, ...args: readonly CallArgument[]): number;
  /** The text of a file of /proc or /sys, or undefined. */
  readText(path: string): string | undefined;
  readBytes(path: string): Buffer | undefined;
  /** Takes over a descriptor. */
  userfaultfd(fd: number): NativeUserfaultfd;
  /** The first vCPU of a VM. `runBytes`: KVM_GET_VCPU_MMAP_SIZE. */
  vcpu(vm: NativeKvmVm, runBytes: number): NativeKvmVcpu;
}

function readBytes(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

export const runningKernel: Kernel = {
  systemCall: (name, ...args) => native().systemCall(name, ...args),
  readText: (path) => readBytes(path)?.toString(),
  readBytes,
  userfaultfd: (fd) => new (native().Userfaultfd)(fd),
  vcpu: (vm, runBytes) => new (native().KvmVcpu)(vm, 0, runBytes),
};

/** `ok`, or the name of the errno. */
export function outcomeName(returned: number | bigint): string {
  return returned < 0 ? errnoName(Number(returned))[0] : 'ok';
}

/** The same of an answer: the number of bytes instead of `ok`. */
export function bytesOrErrno(result: number): string {
  return result < 0 ? outcomeName(result) : `${result} bytes`;
}

/** The name of the errno that an exception carries. @throws what is no errno */
export function errnoOf(error: unknown): string {
  if (error instanceof Error && 'errno' in error && 'code' in error) return String(error.code);
  throw error;
}

/** Opens a path: a descriptor or a negative errno. */
export function openPath(kernel: Kernel, path: string, write: boolean): number {
  const AT_FDCWD = -100;
  const O_RDWR = 2;
  const O_CLOEXEC = 0o2000000;
  return kernel.systemCall('openat', AT_FDCWD, Buffer.from(`${path}\0`), (write ? O_RDWR : 0) | O_CLOEXEC);
}
