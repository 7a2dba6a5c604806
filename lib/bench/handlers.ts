// The two that are compared, each given faulting memory: the server of this package, and the plain C handler.
import { checked } from '../errors.js';
import type { FillWay } from '../memory/kinds/kind.js';
import type { memoryKinds } from '../memory/kinds/kinds.js';
import type { Mapping } from '../memory/mapping.js';
import type { Memfd } from '../memory/memfd.js';
import { native } from '../native/load.js';
import { FaultServer } from '../server/fault-server.js';
import type { SourceSpec } from '../server/page-source.js';
import { fileSource } from '../sources/file.js';
import { objectSource } from '../sources/user.js';
import type { Region } from '../userfaultfd/region.js';
import { Userfaultfd } from '../userfaultfd/userfaultfd.js';
import type { Snapshot } from './snapshot.js';

/** A registered mapping of this process, to be given to a handler. */
export class FaultingMemory implements Disposable {
  readonly kind: keyof typeof memoryKinds;
  readonly mapping: Mapping;
  readonly memfd: Memfd | undefined;
  readonly userfaultfd: Userfaultfd;
  readonly region: Region;
  readonly #owned: boolean;

  /** @param owned the memfd is closed with it */
  constructor(mapping: Mapping, memfd: Memfd | undefined, owned: 'owned' | 'shared' = 'shared') {
    this.mapping = mapping;
    this.memfd = memfd;
    this.#owned = owned === 'owned';
    this.kind = mapping.kind.name;
    this.userfaultfd = Userfaultfd.open();
    this.region = this.userfaultfd.register(mapping, memfd === undefined ? ['missing'] : ['missing', 'minor']);
  }

  get pages(): number {
    return this.mapping.lengthBytes / this.mapping.pageSize;
  }

  /** A descriptor for a handler, which closes it. */
  duplicate(): number {
    return checked(native().duplicateFd(this.userfaultfd.fd), 'fcntl');
  }

  [Symbol.dispose](): void {
    this.userfaultfd.close();
    this.mapping.unmap();
    if (this.#owned) this.memfd?.close();
  }
}

export interface ServerSetup {
  /** What absent pages are filled from; without it, pages are resident. */
  readonly snapshot?: Snapshot;
  readonly fill?: FillWay | 'auto';
  readonly faultAround?: number;
  readonly workers?: number;
  readonly cpus?: readonly number[];
}

/** The server under test, with its serving workers in this process. */
export class TestedServer implements AsyncDisposable {
  readonly #server: FaultServer;
  readonly #resident: boolean;

  private constructor(server: FaultServer, resident: boolean) {
    this.#server = server;
    this.#resident = resident;
  }

  static async start(setup: ServerSetup): Promise<TestedServer> {
    const { snapshot, ...options } = setup;
    const source: SourceSpec = snapshot === undefined ? noSource() : fileSource(snapshot.path);
    return new TestedServer(await FaultServer.start({ source, ...options }), snapshot === undefined);
  }

  /** Serves the memory from here on; the session, for `release`. */
  async serve(memory: FaultingMemory): Promise<number> {
    const { kind, mapping, memfd } = memory;
    return this.#server.attach({
      userfaultfd: memory.duplicate(),
      ...(memfd !== undefined && { memory: checked(native().duplicateFd(memfd.fd), 'fcntl') }),
      kind,
      pageSize: mapping.pageSize,
      regions: [{ start: mapping.address, size: mapping.lengthBytes, offset: 0 }],
      resident: this.#resident,
    });
  }

  async release(session: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const detached = (which: number) => {
        if (which !== session) return;
        this.#server.off('detached', detached);
        resolve();
      };
      this.#server.on('detached', detached);
      this.#server.release(session);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.close();
  }
}

/** Nothing is ever read from it: every page is resident. */
function noSource(): SourceSpec {
  return objectSource({}, { sizeBytes: Number.MAX_SAFE_INTEGER });
}

/** The plain C handler. */
export class ReferenceHandler implements Disposable {
  readonly #handler: InstanceType<ReturnType<typeof native>['ReferenceHandler']>;

  /** @param options.snapshot filled from by UFFDIO_COPY; without it, UFFDIO_CONTINUE of resident pages */
  constructor(
    memory: FaultingMemory,
    options: { pagesPerAnswer: number; cpus: readonly number[]; snapshot?: Snapshot },
  ) {
    this.#handler = new (native().ReferenceHandler)(
      [memory.duplicate()],
      Float64Array.of(Number(memory.mapping.address)),
      Float64Array.of(memory.mapping.lengthBytes),
      memory.mapping.pageSize,
      options.pagesPerAnswer,
      options.snapshot?.fd ?? -1,
      [...options.cpus],
    );
    checked(this.#handler.error(), 'mmap', 'the C handler');
  }

  [Symbol.dispose](): void {
    this.#handler.stop();
  }
}
