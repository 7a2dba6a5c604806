// Why KVM_RUN came back, decoded from struct kvm_run.
import { KernelError } from '../errors.js';

/** Why KVM_RUN came back; told apart by `type`. */
export type VcpuExit =
  /** A port. For `in`, the next `run` takes the bytes: `size` times `count` of them. */
  | {
      readonly type: 'io';
      readonly direction: 'in' | 'out';
      readonly port: number;
      /** Bytes of one access. */
      readonly size: number;
      /** Accesses of a string instruction. */
      readonly count: number;
      readonly data: Buffer;
    }
  /** An address without memory. For a read, the next `run` takes the bytes. */
  | {
      readonly type: 'mmio';
      readonly address: number;
      readonly lengthBytes: number;
      readonly write: boolean;
      readonly data: Buffer;
    }
  | { readonly type: 'hlt' }
  /** A triple fault. */
  | { readonly type: 'shutdown' }
  /** Interrupted: by `interrupt`, or to complete an exit. */
  | { readonly type: 'intr' }
  /** Memory that is private where shared is asked for, or the other way round; or that could not be had (6.8). */
  | {
      readonly type: 'memory-fault';
      readonly address: number;
      readonly sizeBytes: number;
      readonly private: boolean;
      readonly flags: bigint;
      /** What KVM_RUN returned: `EFAULT` or `EHWPOISON`. */
      readonly code: string;
    }
  | {
      readonly type: 'internal-error';
      readonly suberror: number;
      readonly reason: string;
      readonly data: readonly bigint[];
    }
  | { readonly type: 'fail-entry'; readonly reason: bigint; readonly cpu: number }
  /** An exit that is not decoded here: its number, and the bytes of its data. */
  | { readonly type: 'unknown'; readonly reason: number; readonly raw: Buffer };

/** kvm_run.exit_reason */
const Reason = {
  io: 2,
  hlt: 5,
  mmio: 6,
  shutdown: 8,
  failEntry: 9,
  intr: 10,
  internalError: 17,
  memoryFault: 39,
} as const;
const EXIT_REASON = 8;
const UNION = 32;
const UNION_BYTES = 256;
/** Where native/ puts the data of a port. */
const IO_DATA = UNION + UNION_BYTES;
const MEMORY_FAULT_PRIVATE = 8n;

const suberrors: Record<number, string> = {
  1: 'an instruction could not be emulated',
  2: 'several exceptions at once',
  3: 'an exit while an event was delivered',
  4: 'an exit that KVM does not expect',
};

const EINTR = -4;
const EFAULT = -14;
const EHWPOISON = -133;

/**
 * @param result of KVM_RUN. Only after success, EFAULT and EHWPOISON does the exit belong to this run; else it is an old one.
 * @throws KernelError for any other errno, and for EFAULT and EHWPOISON without a memory fault
 */
export function decodeExit(result: number, run: Buffer): VcpuExit {
  if (result === EINTR) return { type: 'intr' };
  const reason = run.readUInt32LE(EXIT_REASON);
  if (result === 0) return decoded(reason, run);
  const mayHaveFault = result === EFAULT || result === EHWPOISON;
  if (mayHaveFault && reason === Reason.memoryFault) return memoryFault(run, new KernelError(result, 'KVM_RUN').code);
  throw new KernelError(result, 'KVM_RUN', mayHaveFault ? 'guest memory that cannot be had' : undefined);
}

function decoded(reason: number, run: Buffer): VcpuExit {
  switch (reason) {
    case Reason.io:
      return io(run);
    case Reason.mmio:
      return mmio(run);
    case Reason.hlt:
      return { type: 'hlt' };
    case Reason.shutdown:
      return { type: 'shutdown' };
    case Reason.intr:
      return { type: 'intr' };
    case Reason.failEntry:
      return { type: 'fail-entry', reason: run.readBigUInt64LE(UNION), cpu: run.readUInt32LE(UNION + 8) };
    case Reason.internalError:
      return internalError(run);
    case Reason.memoryFault:
      return memoryFault(run, 'OK');
    default:
      return { type: 'unknown', reason, raw: Buffer.from(run.subarray(UNION, IO_DATA)) };
  }
}

function io(run: Buffer): VcpuExit {
  return {
    type: 'io',
    direction: run.readUInt8(UNION) === 0 ? 'in' : 'out',
    size: run.readUInt8(UNION + 1),
    port: run.readUInt16LE(UNION + 2),
    count: run.readUInt32LE(UNION + 4),
    data: run.subarray(IO_DATA),
  };
}

function mmio(run: Buffer): VcpuExit {
  const lengthBytes = run.readUInt32LE(UNION + 16);
  return {
    type: 'mmio',
    address: Number(run.readBigUInt64LE(UNION)),
    lengthBytes,
    write: run.readUInt8(UNION + 20) !== 0,
    data: run.subarray(UNION + 8, UNION + 8 + Math.min(lengthBytes, 8)),
  };
}

function internalError(run: Buffer): VcpuExit {
  const suberror = run.readUInt32LE(UNION);
  const values = Math.min(run.readUInt32LE(UNION + 4), 16);
  return {
    type: 'internal-error',
    suberror,
    reason: suberrors[suberror] ?? `suberror ${suberror}`,
    data: Array.from({ length: values }, (_, index) => run.readBigUInt64LE(UNION + 8 + 8 * index)),
  };
}

function memoryFault(run: Buffer, code: string): VcpuExit {
  const flags = run.readBigUInt64LE(UNION);
  return {
    type: 'memory-fault',
    address: Number(run.readBigUInt64LE(UNION + 8)),
    sizeBytes: Number(run.readBigUInt64LE(UNION + 16)),
    private: (flags & MEMORY_FAULT_PRIVATE) !== 0n,
    flags,
    code,
  };
}
