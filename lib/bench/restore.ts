// Restoring all of a snapshot whose file is in the page cache, by touching it in random order.
import { UffdError } from '../errors.js';
import type { FillWay } from '../memory/kinds/kind.js';
import { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import { pageSize } from '../memory/page-size.js';
import type { BenchContext, Size } from './bench-context.js';
import { Cleanup } from './cleanup.js';
import { type Contestant, type Measured, type Row, type Times, alternate } from './contestant.js';
import { FaultingMemory, ReferenceHandler, TestedServer } from './handlers.js';
import type { Snapshot } from './snapshot.js';
import { type Load, touch, touchOrder } from './touching.js';

export interface RestoreTrial {
  readonly runner: 'restore';
  readonly name: string;
  readonly rows: readonly Row[];
  readonly memory: 'anonymous' | 'memfd';
  readonly fill: FillWay | 'auto';
  readonly sizeBytes: Size;
  readonly threads: number;
  readonly repetitions: Size;
}

const GIBIBYTE = 2 ** 30;
/** Pages compared with the file after every restore: a fast answer with wrong bytes is none. */
const SAMPLES = 16;

type Handler = (memory: FaultingMemory) => Promise<AsyncDisposable | Disposable>;

class RestoreSide implements Contestant {
  readonly #trial: RestoreTrial;
  readonly #snapshot: Snapshot;
  readonly #load: Load;
  readonly #handler: Handler;

  constructor(trial: RestoreTrial, snapshot: Snapshot, load: Load, handler: Handler) {
    this.#trial = trial;
    this.#snapshot = snapshot;
    this.#load = load;
    this.#handler = handler;
  }

  async run(): Promise<Times> {
    using memory = absentMemory(this.#trial.memory, this.#snapshot.sizeBytes);
    await using cleanup = new Cleanup();
    cleanup.use(await this.#handler(memory));
    const { seconds } = await touch(memory.mapping, this.#load);
    await this.#check(memory.mapping);
    return { perGibibyte: (seconds * GIBIBYTE) / this.#snapshot.sizeBytes };
  }

  async #check(mapping: Mapping): Promise<void> {
    const { pageSize: bytes, lengthBytes } = mapping;
    for (let sample = 0; sample < SAMPLES; sample++) {
      const offset = Math.floor(((sample + 0.5) * lengthBytes) / SAMPLES / bytes) * bytes;
      const actual = await mapping.read(offset, bytes, { signal: this.#load.signal });
      if (!actual.equals(this.#snapshot.read(offset, bytes))) {
        throw new UffdError('ERR_SOURCE_CHANGED', `the page at ${offset} of the restored memory has wrong bytes`);
      }
    }
  }
}

/** The server with its defaults, against C that answers one page per fault by UFFDIO_COPY from the mapped file. */
export async function runRestore(context: BenchContext, trial: RestoreTrial): Promise<Measured[]> {
  const snapshot = context.snapshot(context.size(trial.sizeBytes));
  const { faultAround, signal } = context;
  await using server = await TestedServer.start({
    snapshot,
    fill: trial.fill,
    ...(faultAround !== undefined && { faultAround }),
  });
  const tested: Handler = async (memory) => {
    const session = await server.serve(memory);
    return { [Symbol.asyncDispose]: () => server.release(session) };
  };
  const reference: Handler = (memory) =>
    Promise.resolve(new ReferenceHandler(memory, { pagesPerAnswer: 1, cpus: [], snapshot }));
  const order = touchOrder(snapshot.sizeBytes / pageSize(), 'random');
  const load: Load = { order, threads: trial.threads, cpus: [], signal };
  const [ours, theirs] = [tested, reference].map((handler) => new RestoreSide(trial, snapshot, load, handler));
  return await alternate(ours!, theirs!, trial.rows, context.size(trial.repetitions));
}

function absentMemory(kind: 'anonymous' | 'memfd', sizeBytes: number): FaultingMemory {
  if (kind === 'anonymous') return new FaultingMemory(Mapping.anonymous(sizeBytes), undefined);
  const memfd = Memfd.create({ sizeBytes, name: 'uffd-bench' });
  return new FaultingMemory(Mapping.map(memfd), memfd, 'owned');
}
