// What a server costs in memory: a process of its own that restores a snapshot for this one.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UffdError } from '../errors.js';
import { Mapping } from '../memory/mapping.js';
import { Memfd } from '../memory/memfd.js';
import { handOff } from '../transports/hand-off.js';
import type { BenchContext } from './bench-context.js';
import { FaultingMemory } from './handlers.js';
import type { Extra } from './report.js';
import { touch, touchOrder } from './touching.js';

const SIZE_BYTES = { full: 2 ** 30, quick: 2 ** 27 };
const THREADS = 4;
/** What a server may have beside its page states. */
const FIXED_BYTES = 64 * 2 ** 20;

/** What the child tells: that it listens, then its memory whenever it is asked. */
export interface MemoryOfServer {
  readonly anonymousBytes: number;
  readonly pageStateBytes: number;
}

export async function serverMemory(context: BenchContext): Promise<Extra[]> {
  const { signal } = context;
  const snapshot = context.snapshot(context.size(SIZE_BYTES));
  const socket = join(tmpdir(), `uffd-bench-${process.pid}.sock`);
  const child = fork(new URL('./server-memory-child.js', import.meta.url), [snapshot.path, socket]);
  try {
    await answerOf(child, signal);
    const memfd = Memfd.create({ sizeBytes: snapshot.sizeBytes, name: 'uffd-bench' });
    using memory = new FaultingMemory(Mapping.map(memfd), memfd, 'owned');
    const { mapping, userfaultfd, pages } = memory;
    using handoff = await handOff(socket, { userfaultfd, memfd, mappings: [{ mapping, offset: 0 }], signal });
    handoff.done.catch(() => undefined);
    await touch(mapping, { order: touchOrder(pages, 'random'), threads: THREADS, cpus: [], signal });
    child.send('memory');
    const { anonymousBytes, pageStateBytes } = await answerOf(child, signal);
    const value = anonymousBytes + pageStateBytes;
    return [
      { name: 'server memory: RssAnon and page states', unit: 'bytes', value, limit: FIXED_BYTES + pages },
      { name: 'server memory: page states', unit: 'bytes/page', value: pageStateBytes / pages, limit: 1 },
    ];
  } finally {
    child.disconnect();
    await once(child, 'exit');
  }
}

async function answerOf(child: ChildProcess, signal: AbortSignal): Promise<MemoryOfServer> {
  const gone = once(child, 'exit', { signal }).then(() => {
    throw new UffdError('ERR_SERVER_GONE', 'the server that was to be measured has ended');
  });
  return Promise.race([once(child, 'message', { signal }).then(([message]) => message as MemoryOfServer), gone]);
}
