// The socket at which clients hand over their memory: accepts, checks, attaches, and watches who goes away.
import { EventEmitter, setMaxListeners } from 'node:events';
import { lstatSync } from 'node:fs';
import { UffdError, messageOf } from '../errors.js';
import type { NativeFdWatcher, NativeUnixSocket } from '../native/contract.js';
import { native } from '../native/load.js';
import { inRange } from '../server/fault-server-options.js';
import type { Attachment, FaultServer } from '../server/fault-server.js';
import { type ClonesBacking, attachmentFrom } from './attachment.js';
import { CLONES_GREETING, type CloneMemory, cloneMemory } from './clones.js';
import { Connection } from './connection.js';
import type { Dialect } from './dialects.js';
import { receiveHandshake } from './handshake.js';
import { statusOf } from './status-answer.js';
import { STATUS_REQUEST } from './status-request.js';
import { listenAt, removeSocket } from './socket-path.js';

/** Where it listens, and whom it lets in. */
export interface ListenerOptions {
  /** Path of the socket, at most 107 bytes. */
  readonly path: string;
  /** User ids that may connect, beside this process's own and root. With any, the socket is made 0666, not 0600. */
  readonly allowUids?: readonly number[];
  /** How long a client may take for its handshake, in milliseconds. Default 10,000. */
  readonly handshakeTimeoutMs?: number;
  /**
   * For clients that share the clean pages of one snapshot: its memory, filled and sealed, which is given to each of them.
   * They register it, mapped private, for MINOR faults. Stays the caller's. Default: clients bring their own memory.
   */
  readonly backing?: ClonesBacking;
  /** What `uffd serve --status` is told beside the sessions; it prints `pid`, `file` and `sizeBytes`. Default nothing. */
  readonly about?: Readonly<Record<string, unknown>>;
}

/** The events of a `HandoffListener`, each with its arguments. */
export interface ListenerEvents {
  /** A client's memory is being served. */
  session: [
    session: number,
    peer: { pid: number; uid: number },
    dialect: Dialect,
    memory: { kind: Attachment['kind']; pageSize: number },
  ];
  /** A client was turned away, before anything of it was accepted. */
  refused: [reason: string, peer: { pid: number; uid: number } | undefined];
  error: [Error];
}

const EAGAIN = -11;
const ACCEPT_AGAIN_MS = 100;
/** How long the serving workers may take to say how they are. */
const STATUS_MS = 5000;

interface Client {
  readonly connection: Connection;
  readonly dialect: Dialect;
  readonly pidfd: number;
  readonly pid: number;
  readonly regions: readonly { readonly start: bigint; readonly size: number }[];
  readonly memory: { readonly kind: Attachment['kind']; readonly pageSize: number };
  watcher?: NativeFdWatcher;
}

/** Listens on a Unix socket and attaches what clients hand over to a `FaultServer`. */
export class HandoffListener extends EventEmitter<ListenerEvents> implements Disposable {
  readonly path: string;
  readonly #server: FaultServer;
  readonly #options: ListenerOptions;
  readonly #socket: NativeUnixSocket;
  readonly #inode: bigint;
  readonly #clients = new Map<number, Client>();
  readonly #shaking = new Set<Connection>();
  #watcher: NativeFdWatcher | undefined;
  readonly #closed = new AbortController();

  /** Listens from here on. @throws UffdError ERR_SOCKET_IN_USE, ERR_OUT_OF_RANGE, KernelError of bind(2) */
  constructor(server: FaultServer, options: ListenerOptions) {
    super();
    inRange('handshakeTimeoutMs', options.handshakeTimeoutMs ?? 0, 0, 2 ** 31 - 1);
    this.#server = server;
    this.#options = options;
    // One for each handshake under way.
    setMaxListeners(0, this.#closed.signal);
    this.path = options.path;
    this.#socket = new (native().UnixSocket)(listenAt(options.path, (options.allowUids ?? []).length > 0));
    this.#inode = lstatSync(options.path, { bigint: true }).ino;
    server.on('detached', (session, why) => {
      this.#ended(session, why);
    });
    server.on('close', () => {
      this.close();
      for (const session of this.#clients.keys()) this.#ended(session, 'released');
    });
    server.on('parked', (session, reason) => {
      this.#tell(session, { event: 'parked', reason });
    });
    this.#watch();
  }

  /** Stops accepting and removes the socket file; sessions go on. Idempotent. */
  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#watcher?.close();
    // With the descriptors of clients that were not accepted yet.
    this.#socket.closeDetached();
    for (const connection of this.#shaking) connection.close();
    this.#closed.abort();
    removeSocket(this.path, this.#inode);
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #watch(): void {
    if (!this.#closed.signal.aborted) {
      this.#watcher = new (native().FdWatcher)(this.#socket.fd(), () => {
        this.#accept();
      });
    }
  }

  #accept(): void {
    for (;;) {
      const fd = this.#socket.accept();
      if (fd >= 0) void this.#receive(new Connection(fd));
      else if (fd === EAGAIN) return;
      else break;
    }
    // Out of descriptors, most likely: the connection stays in the queue, and the watcher would fire without end.
    this.#watcher?.close();
    setTimeout(() => {
      this.#watch();
    }, ACCEPT_AGAIN_MS);
  }

  async #receive(connection: Connection): Promise<void> {
    const descriptors: number[] = [];
    let peer: ReturnType<Connection['peer']> | undefined;
    let accepted: [session: number, client: Client] | undefined;
    this.#shaking.add(connection);
    try {
      peer = connection.peer();
      this.#checkPeer(peer.uid);
      const { backing } = this.#options;
      if (backing !== undefined) connection.send(CLONES_GREETING, [backing.fd]);
      const timeoutMs = this.#options.handshakeTimeoutMs ?? 10_000;
      const { text } = await receiveHandshake(connection, descriptors, { timeoutMs, signal: this.#closed.signal });
      if (text === STATUS_REQUEST && descriptors.length === 0) {
        await this.#status(connection);
        if (peer.pidfd >= 0) native().closeFd(peer.pidfd);
        return;
      }
      const { attachment, dialect } = attachmentFrom(text, descriptors, {
        sizeBytes: this.#server.source.sizeBytes,
        backing,
        trusted: ownUids().includes(peer.uid),
      });
      // 0 of a process that this pid namespace does not have: nobody knows which ones are the same then.
      const session = await this.#server.attach({
        ...attachment,
        pidfd: peer.pidfd,
        ...(peer.pid > 0 && { pid: peer.pid }),
      });
      const { pid, pidfd } = peer;
      const { regions, kind, pageSize } = attachment;
      accepted = [session, { connection, dialect, pidfd, pid, regions, memory: { kind, pageSize } }];
    } catch (error) {
      this.#refuse(connection, descriptors, peer, messageOf(error));
    } finally {
      this.#shaking.delete(connection);
    }
    // From here on it is the session whose end closes what there is of the client.
    if (accepted !== undefined) this.#accepted(...accepted, peer!);
  }

  async #status(connection: Connection): Promise<void> {
    const late = setTimeout(() => {
      connection.close();
    }, STATUS_MS);
    const told = await statusOf({
      server: this.#server,
      about: this.#options.about,
      clientOf: (session) => this.#clientOf(session),
    });
    clearTimeout(late);
    connection.send(`${JSON.stringify(told)}\n`);
    connection.close();
  }

  /** What the status has of it beside what it was served; of one that came to another listener nothing. */
  async #clientOf(session: number): Promise<({ pid: number } & Partial<CloneMemory>) | undefined> {
    const client = this.#clients.get(session);
    if (client === undefined) return undefined;
    const { pid, dialect, regions } = client;
    return { pid, ...(dialect === 'clones' && (await cloneMemory(pid, regions))) };
  }

  #checkPeer(uid: number): void {
    const allowed = [...ownUids(), ...(this.#options.allowUids ?? [])];
    if (!allowed.includes(uid)) throw new UffdError('ERR_HANDOFF_REFUSED', `user ${uid} is not allowed to connect`);
  }

  #accepted(session: number, client: Client, peer: { pid: number; uid: number }): void {
    const { connection } = client;
    this.#clients.set(session, client);
    // Both may have come meanwhile: its end, and that of this listener, which closes all connections.
    if (!this.#server.sessions.includes(session)) this.#ended(session, 'gone');
    else if (connection.closed) this.#server.orphan(session);
    else this.#follow(session, client, peer);
  }

  #follow(session: number, client: Client, peer: { pid: number; uid: number }): void {
    const { connection, dialect, pidfd } = client;
    this.#tell(session, { event: 'accepted', session });
    const orphan = () => {
      this.#server.orphan(session);
    };
    connection.onData((chunk) => {
      // Nothing is expected from the client any more; its end is. Each descriptor could take a thread to be closed.
      for (const fd of chunk.descriptors) native().closeDetached(fd);
      if (chunk.descriptors.length > 0) connection.close();
      if (chunk.descriptors.length > 0 || chunk.bytes.length === 0) orphan();
    }, orphan);
    if (pidfd >= 0) {
      client.watcher = new (native().FdWatcher)(pidfd, () => {
        client.watcher?.close();
        orphan();
      });
    }
    this.emit('session', session, { pid: peer.pid, uid: peer.uid }, dialect, client.memory);
  }

  #refuse(
    connection: Connection,
    descriptors: number[],
    peer: ReturnType<Connection['peer']> | undefined,
    reason: string,
  ): void {
    // What is not known to be harmless may hang in close(2).
    for (const fd of descriptors) native().closeDetached(fd);
    if (peer !== undefined && peer.pidfd >= 0) native().closeFd(peer.pidfd);
    if (!connection.closed) {
      try {
        // A clone does not read it; whoever looks what is wrong does.
        connection.send(`${JSON.stringify({ event: 'refused', reason })}\n`);
      } catch {
        // It has gone already; the event below says why it was refused.
      }
      connection.close();
    }
    if (!this.#closed.signal.aborted) this.emit('refused', reason, peer && { pid: peer.pid, uid: peer.uid });
  }

  #ended(session: number, why: 'gone' | 'drained' | 'released'): void {
    const client = this.#clients.get(session);
    if (client === undefined) return;
    if (why === 'drained') this.#tell(session, { event: 'drained' });
    this.#clients.delete(session);
    client.watcher?.close();
    if (client.pidfd >= 0) native().closeFd(client.pidfd);
    client.connection.close();
  }

  #tell(session: number, message: object): void {
    const client = this.#clients.get(session);
    if (client?.dialect !== 'handoff') return;
    try {
      client.connection.send(`${JSON.stringify(message)}\n`);
    } catch (error) {
      // A client that does not read, or has gone: its end is seen elsewhere.
      if (this.listenerCount('error') > 0) this.emit('error', error as Error);
    }
  }
}

/** Users who can do anything to this process anyway. */
function ownUids(): number[] {
  return [0, process.getuid?.() ?? 0];
}
