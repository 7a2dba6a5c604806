// A kernel in which single calls answer as the test says, and all others are the running one's.
import { runningKernel } from '../../dist/probe/kernel.js';
import type { CallArgument, Kernel } from '../../dist/probe/kernel.js';
import { ask } from '../../dist/probe/ask.js';
import { OtherThread } from '../../dist/probe/other-thread.js';
import { findProbe } from '../../dist/probe/areas/areas.js';
import type { Finding } from '../../dist/probe/probe.js';
import { Answer, AnswerOp } from '../../dist/native/contract.js';
import type { NativeUserfaultfd } from '../../dist/native/contract.js';
import type { NativeKvmVcpu } from '../../dist/native/kvm-contract.js';
import { native } from '../../dist/native/load.js';
import { milliseconds } from '../support/deadline.js';

type Operation = keyof typeof AnswerOp;
type SystemCall = number | ((...args: readonly CallArgument[]) => number | undefined);

/** What KVM_RUN returned, the guest address whose poison was told, and kvm_run. */
export interface RawRun {
  readonly result: number;
  readonly failedAddress?: number;
  readonly exit?: Buffer;
}

/** What is not given, or gives undefined, is the running kernel's answer. */
export interface Injection {
  readonly systemCall?: Readonly<Record<string, SystemCall>>;
  /** Of files of /proc and /sys; null: no such file. */
  readonly text?: (path: string) => string | null | undefined;
  readonly handshake?: (features: bigint, real: NativeUserfaultfd) => [bigint, bigint] | number | undefined;
  readonly register?: (mode: number) => bigint | number | undefined;
  readonly unregister?: (real: NativeUserfaultfd, start: number, length: number) => number;
  /** May change the row, or give its result. */
  readonly answer?: (operation: Operation, row: Float64Array) => number | undefined;
  readonly read?: (real: NativeUserfaultfd, buffer: Uint8Array) => number | undefined;
  readonly setMode?: number;
  /** Of a vCPU, which then does not run. */
  readonly run?: RawRun;
  readonly preFault?: [number, number] | number;
  readonly close?: () => void;
}

const operations = Object.entries(AnswerOp) as [Operation, number][];

export function injected(injection: Injection): Kernel {
  const text = (path: string) => {
    const given = injection.text?.(path);
    return given === undefined ? runningKernel.readText(path) : (given ?? undefined);
  };
  return {
    systemCall: (name, ...args) => {
      const given = injection.systemCall?.[name];
      const answer = typeof given === 'function' ? given(...args) : given;
      return answer ?? runningKernel.systemCall(name, ...args);
    },
    readText: text,
    readBytes: (path) => (injection.text?.(path) === null ? undefined : runningKernel.readBytes(path)),
    userfaultfd: (fd) => wrapped(runningKernel.userfaultfd(fd), injection),
    vcpu: (vm, runBytes) => wrappedVcpu(runningKernel.vcpu(vm, runBytes), injection),
  };
}

function wrapped(real: NativeUserfaultfd, injection: Injection): NativeUserfaultfd {
  return {
    fd: () => real.fd(),
    close: () => {
      (injection.close ?? (() => real.close()))();
    },
    handshake: (features) => injection.handshake?.(features, real) ?? real.handshake(features),
    register: (start, length, mode) => injection.register?.(mode) ?? real.register(start, length, mode),
    unregister: (start, length) => injection.unregister?.(real, start, length) ?? real.unregister(start, length),
    answer: (rows) => {
      const [operation] = operations.find(([, number]) => number === rows[Answer.op])!;
      const result = injection.answer?.(operation, rows);
      if (result === undefined) real.answer(rows);
      else rows[Answer.result] = result;
    },
    setMode: (enable, disable) => injection.setMode ?? real.setMode(enable, disable),
    read: (buffer) => injection.read?.(real, buffer) ?? real.read(buffer),
    alive: () => real.alive(),
  };
}

function wrappedVcpu(real: NativeKvmVcpu, { run, preFault }: Injection): NativeKvmVcpu {
  return {
    error: () => real.error(),
    fd: () => real.fd(),
    getState: (kind) => real.getState(kind),
    setState: (kind, bytes) => real.setState(kind, bytes),
    setCpuid: (words) => real.setCpuid(words),
    getMsrs: (entries) => real.getMsrs(entries),
    setMsrs: (entries) => real.setMsrs(entries),
    preFault: (address, length) => preFault ?? real.preFault(address, length),
    run: (reply, callback) => {
      if (run === undefined) return real.run(reply, callback);
      const { result, failedAddress = -1, exit = Buffer.alloc(0) } = run;
      queueMicrotask(() => {
        callback(result, failedAddress, 0, 0, exit);
      });
      return 0;
    },
    interrupt: (signal) => {
      real.interrupt(signal);
    },
    close: () => {
      real.close();
    },
  };
}

/** kvm_run after the guest has put a byte out to a port. */
export function portExit(byte: number): Buffer {
  const exit = Buffer.alloc(289, byte);
  exit.writeUInt32LE(2, 8);
  return exit;
}

/** Asks a probe of such a kernel, in this process. */
export async function askOf(id: string, injection: Injection): Promise<Finding> {
  await OtherThread.started();
  const probe = findProbe(id);
  if (probe === undefined) throw new Error(`no probe ${id}`);
  return ask(probe, injected(injection), milliseconds(1));
}

/** A descriptor for whoever will close it, in place of the one that a call would give. */
export function anyDescriptor(): number {
  return native().duplicateFd(2);
}

/** One uffd_msg in the buffer of a read. */
export function message(buffer: Uint8Array, event: number, words: readonly bigint[]): number {
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  view.setUint8(0, event);
  words.forEach((word, index) => {
    view.setBigUint64(8 + index * 8, word, true);
  });
  return 1;
}
