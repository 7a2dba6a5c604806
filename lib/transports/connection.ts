// One AF_UNIX stream connection on the event loop, with the descriptors that come over it.
import { KernelError, UffdError } from '../errors.js';
import type { NativeFdWatcher, NativeUnixSocket } from '../native/contract.js';
import { native } from '../native/load.js';

const EAGAIN = -11;
const RECEIVE_BYTES = 64 * 1024;

/** What has arrived at once. No bytes means the end of the stream. The descriptors belong to the receiver. */
export interface Chunk {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly number[];
  /** More descriptors were sent than are ever taken; the kernel dropped the rest. */
  readonly controlTruncated: boolean;
}

export class Connection implements Disposable {
  readonly #socket: NativeUnixSocket;
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);
  #watcher: NativeFdWatcher | undefined;
  #closed = false;

  constructor(fd: number) {
    this.#socket = new (native().UnixSocket)(fd);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls back with everything that arrives, until the end of the stream (an empty chunk), an error, or `pause`. */
  onData(callback: (chunk: Chunk) => void, failed: (error: Error) => void): void {
    this.#watcher?.close();
    this.#watcher = new (native().FdWatcher)(this.#socket.fd(), () => {
      try {
        const chunk = this.#receive();
        if (chunk === undefined) return;
        if (chunk.bytes.length === 0) this.pause();
        callback(chunk);
      } catch (error) {
        this.pause();
        failed(error as Error);
      }
    });
  }

  pause(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** Sends what fits into the socket's buffer, which anything this library sends does. */
  send(text: string, descriptors: readonly number[] = []): void {
    if (this.#closed) throw new UffdError('ERR_CLOSED', 'the connection is closed');
    const bytes = Buffer.from(text);
    let sent = 0;
    while (sent < bytes.length) {
      const result = this.#socket.send(bytes.subarray(sent), sent === 0 ? [...descriptors] : []);
      if (result < 0) throw new KernelError(result, 'sendmsg');
      sent += result;
    }
  }

  /** @throws KernelError */
  peer(): { pid: number; uid: number; gid: number; pidfd: number } {
    const peer = this.#socket.peer();
    if (typeof peer === 'number') throw new KernelError(peer, 'getsockopt', 'SO_PEERCRED');
    const [pid, uid, gid, pidfd] = peer;
    return { pid, uid, gid, pidfd };
  }

  close(): void {
    this.#closed = true;
    this.pause();
    this.#socket.closeDetached();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #receive(): Chunk | undefined {
    const received = this.#socket.receive(this.#buffer);
    if (typeof received === 'number') {
      if (received === EAGAIN) return undefined;
      throw new KernelError(received, 'recvmsg');
    }
    const [count, controlTruncated, ...descriptors] = received;
    return { bytes: this.#buffer.slice(0, count), descriptors, controlTruncated };
  }
}
