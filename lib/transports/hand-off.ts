// The client half: hands memory to a fault server and keeps watch over it.
import { addAbortListener } from 'node:events';
import { KernelError, UffdError } from '../errors.js';
import type { GuestMemfd } from '../kvm/guest-memfd.js';
import type { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import { native } from '../native/load.js';
import type { Userfaultfd } from '../userfaultfd/userfaultfd.js';
import { CLONES_GREETING } from './clones.js';
import { Connection } from './connection.js';
import type { WireMapping } from './mappings.js';

/** What is handed to the server. */
export interface HandOffOptions {
  /** Registers the mappings already. Keep it open: its closing would let the memory read as zeroes. */
  readonly userfaultfd: Userfaultfd;
  /** The memory behind shared mappings; none for anonymous memory. A memfd is sealed against shrinking, where it can be. */
  readonly memfd?: Memfd | GuestMemfd;
  /** `offset`: where the mapping's bytes begin in the source and in the memfd. */
  readonly mappings: readonly { readonly mapping: Mapping; readonly offset: number }[];
  readonly signal?: AbortSignal;
  /** How long the server may take to accept, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number;
}

type ServerMessage =
  | { event: 'accepted'; session: number }
  | { event: 'refused'; reason: string }
  | { event: 'parked'; reason: string }
  | { event: 'drained' };

/** Memory in the care of a fault server. Keep it, and the userfaultfd, for as long as the memory is in use. */
export class Handoff implements Disposable {
  readonly #connection: Connection;
  /** Number of the session at the server. */
  readonly session: number;
  /**
   * Resolves when the server has completed the memory and gone (`drained`), or when this object is closed (`closed`).
   * Rejects with ERR_SERVER_GONE when it went without: absent pages will never come.
   */
  readonly done: Promise<'drained' | 'closed'>;
  #close: () => void = () => undefined;

  /** @internal */
  constructor(connection: Connection, session: number, messages: MessageReader) {
    this.#connection = connection;
    this.session = session;
    this.done = new Promise((resolve, reject) => {
      this.#close = () => {
        resolve('closed');
      };
      messages.next = (message) => {
        if (message?.event === 'drained') resolve('drained');
        else if (message?.event === 'parked') reject(gone(`it stopped answering: ${message.reason}`));
        else if (message === undefined) reject(gone('the connection has ended'));
      };
      messages.deliver();
    });
    this.done.catch(() => undefined);
  }

  /** Ends the connection: the server goes on until none of the memory is registered any more, or this process ends. */
  close(): void {
    this.#close();
    this.#connection.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function gone(why: string): UffdError {
  return new UffdError('ERR_SERVER_GONE', `the fault server is gone: ${why}`);
}

/** Lines of JSON from the server, kept until somebody takes them; undefined is the end of the stream. */
class MessageReader {
  next: ((message: ServerMessage | undefined) => void) | undefined;
  readonly #queue: (ServerMessage | undefined)[] = [];
  #text = '';

  constructor(connection: Connection) {
    const ended = () => {
      this.#queue.push(undefined);
      this.deliver();
    };
    connection.onData((chunk) => {
      // A server of clones gives everybody their memory first, and then refuses this handshake, which brings memory.
      for (const descriptor of chunk.descriptors) native().closeFd(descriptor);
      this.#text = (this.#text + Buffer.from(chunk.bytes).toString('utf8')).replace(CLONES_GREETING, '');
      const lines = this.#text.split('\n');
      this.#text = lines.pop() ?? '';
      for (const line of lines) this.#queue.push(JSON.parse(line) as ServerMessage);
      if (chunk.bytes.length === 0) ended();
      else this.deliver();
    }, ended);
  }

  deliver(): void {
    while (this.next !== undefined && this.#queue.length > 0) this.next(this.#queue.shift());
  }
}

/**
 * Hands registered memory to the fault server at a socket. Resolves once its faults are answered.
 * @throws KernelError of connect(2), UffdError ERR_HANDOFF_REFUSED with the server's reason
 */
export async function handOff(socketPath: string, options: HandOffOptions): Promise<Handoff> {
  const { userfaultfd, memfd, mappings, signal, timeoutMs = 10_000 } = options;
  signal?.throwIfAborted();
  const fd = native().UnixSocket.connect(socketPath);
  if (fd < 0) throw new KernelError(fd, 'connect', socketPath);
  const connection = new Connection(fd);
  try {
    const wire = mappings.map(({ mapping, offset }): WireMapping => ({
      base_host_virt_addr: Number(mapping.address),
      size: mapping.lengthBytes,
      offset,
      page_size: mapping.pageSize,
    }));
    const descriptors = memfd === undefined ? [userfaultfd.fd] : [userfaultfd.fd, memfd.fd];
    if (memfd instanceof Memfd) sealAgainstShrinking(memfd);
    const messages = new MessageReader(connection);
    sendUnlessRefused(connection, JSON.stringify(wire), descriptors);
    const session = await accepted(messages, timeoutMs, signal);
    return new Handoff(connection, session, messages);
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** A server writes only to memory that cannot shrink; other memory it can only fill by UFFDIO_COPY. */
function sealAgainstShrinking(memfd: Memfd): void {
  const seals = memfd.seals();
  if (!seals.has('shrink') && !seals.has('seal')) memfd.addSeals('shrink');
}

/** A server that turns us away for who we are closes before it reads; its reason is waiting to be read all the same. */
function sendUnlessRefused(connection: Connection, text: string, descriptors: readonly number[]): void {
  try {
    connection.send(text, descriptors);
  } catch (error) {
    if (!(error instanceof KernelError) || !['EPIPE', 'ECONNRESET'].includes(error.code)) throw error;
  }
}

function accepted(messages: MessageReader, timeoutMs: number, signal: AbortSignal | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const end = (error?: Error, session = 0) => {
      clearTimeout(timer);
      listener?.[Symbol.dispose]();
      messages.next = undefined;
      if (error === undefined) resolve(session);
      else reject(error);
    };
    const timer = setTimeout(() => {
      end(new UffdError('ERR_HANDOFF_REFUSED', `the server did not answer within ${timeoutMs} ms`));
    }, timeoutMs);
    const listener =
      signal &&
      addAbortListener(signal, () => {
        end(signal.reason as Error);
      });
    messages.next = (message) => {
      if (message?.event === 'accepted') end(undefined, message.session);
      else if (message?.event === 'refused') end(new UffdError('ERR_HANDOFF_REFUSED', message.reason));
      else if (message === undefined) end(gone('it closed the connection without an answer'));
    };
    messages.deliver();
  });
}
