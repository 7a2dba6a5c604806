// Loads and stores on native threads: what becomes of one.
import { addAbortListener } from 'node:events';
import { KernelError, MemoryFaultError } from '../errors.js';
import { AccessKind, AccessOutcome, type NativeMapping } from '../native/contract.js';

/** How an access can be ended. */
export interface AccessOptions {
  /**
   * Calls the thread back from a page that is not served; the promise rejects with the signal's reason. Default: it waits
   * as long as it takes.
   */
  readonly signal?: AbortSignal;
}

interface Access {
  readonly kind: keyof typeof AccessKind;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly pageSize: number;
  /** To be written. */
  readonly bytes: Uint8Array | undefined;
}

const ENOMEM = -12;

function noMemory(lengthBytes: number): KernelError {
  return new KernelError(ENOMEM, 'malloc', `${lengthBytes} bytes`);
}

/** Resolves to the bytes that were read. @throws MemoryFaultError, KernelError EAGAIN, ENOMEM, or the reason of the signal */
export function access(
  mapping: NativeMapping,
  { kind, offset, lengthBytes, pageSize, bytes }: Access,
  { signal }: AccessOptions,
): Promise<Buffer | undefined> {
  const base = mapping.address();
  return new Promise((resolve, reject) => {
    let listener: Disposable | undefined;
    const started = mapping.access(
      AccessKind[kind],
      offset,
      lengthBytes,
      pageSize,
      bytes,
      (outcome, number, siCode, at, read) => {
        listener?.[Symbol.dispose]();
        if (outcome === AccessOutcome.done) resolve(read);
        else if (outcome === AccessOutcome.cancelled) reject(signal?.reason as Error);
        else if (outcome === AccessOutcome.noMemory) reject(noMemory(lengthBytes));
        else {
          const page = Math.floor((at - base) / pageSize);
          reject(new MemoryFaultError(number === 7 ? 'SIGBUS' : 'SIGSEGV', siCode, page));
        }
      },
    );
    if (started === ENOMEM) {
      reject(noMemory(lengthBytes));
    } else if (typeof started === 'number') {
      reject(new KernelError(started, 'pthread_create', 'too many threads: see ulimit -u and the pids cgroup'));
    } else if (signal !== undefined) {
      listener = addAbortListener(signal, started);
    }
  });
}
