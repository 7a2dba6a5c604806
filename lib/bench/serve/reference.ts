// The C handler as a process of its own that clients hand their memory to, like the server it is compared with.
import { type ChildProcess, fork } from 'node:child_process';
import { messageOf, ended } from './client.js';

/** One thread for each client, which answers every fault with one UFFDIO_COPY of the page from the mapped file. */
export class ReferenceProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly socket: string;

  private constructor(child: ChildProcess, socket: string) {
    this.#child = child;
    this.socket = socket;
  }

  static async start(snapshot: string, socket: string, signal: AbortSignal): Promise<ReferenceProcess> {
    const child = fork(new URL('./reference-child.js', import.meta.url), [snapshot, socket]);
    try {
      await messageOf(child, signal);
    } catch (error) {
      await ended(child);
      throw error;
    }
    return new ReferenceProcess(child, socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await ended(this.#child);
  }
}
