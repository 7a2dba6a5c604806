// The process of TouchingClient: has memory served, touches it from native threads. Ends with its parent.
import { setMaxListeners } from 'node:events';
import { closeSync, openSync, readSync } from 'node:fs';
import { UffdError, messageOf } from '../../errors.js';
import { Mapping } from '../../memory/mapping.js';
import { Memfd } from '../../memory/memfd.js';
import { handOff } from '../../transports/hand-off.js';
import { FaultingMemory } from '../handlers.js';
import { percentile } from '../statistics.js';
import { type TouchResult, touch } from '../touching.js';
import type { ClientReply, ClientRun, ClientTimes } from './client.js';
import { touchedPages } from './touched-pages.js';

const SAMPLES = 16;
const stop = new AbortController();
// One for each session.
setMaxListeners(0, stop.signal);

process.on('SIGINT', () => undefined);
process.on('disconnect', () => {
  process.exit();
});
process.on('message', (run: ClientRun) => {
  void answer(run);
});

async function answer(run: ClientRun): Promise<void> {
  let reply: ClientReply;
  try {
    reply = await timesOf(run);
  } catch (error) {
    reply = { error: messageOf(error) };
  }
  process.send?.(reply);
}

async function timesOf(run: ClientRun): Promise<ClientTimes> {
  const order = touchedPages(run.touched, run.sizeBytes);
  const memories = Array.from({ length: run.sessions ?? 1 }, () => absentMemory(run));
  try {
    const results = await Promise.all(memories.map((memory) => one(memory, run, order)));
    return {
      seconds: results.map(({ seconds }) => seconds),
      p99Us: percentile(results[0]!.latenciesNs, 99) / 1000,
    };
  } finally {
    for (const memory of memories) memory[Symbol.dispose]();
  }
}

function absentMemory({ memory, sizeBytes }: ClientRun): FaultingMemory {
  if (memory === 'anonymous') return new FaultingMemory(Mapping.anonymous(sizeBytes), undefined);
  const memfd = Memfd.create({ sizeBytes, name: 'uffd-bench' });
  return new FaultingMemory(Mapping.map(memfd), memfd, 'owned');
}

async function one(memory: FaultingMemory, run: ClientRun, order: Uint32Array): Promise<TouchResult> {
  const { mapping, userfaultfd, memfd } = memory;
  const { signal } = stop;
  const started = performance.now();
  const mappings = [{ mapping, offset: 0 }];
  using handoff = await handOff(run.socket, { userfaultfd, ...(memfd && { memfd }), mappings, signal });
  handoff.done.catch((error: unknown) => {
    stop.abort(error);
  });
  const handedOver = (performance.now() - started) / 1000;
  const touched = await touch(mapping, { order, threads: run.threads, cpus: [], signal });
  await check(mapping, run.snapshot, order);
  return { ...touched, seconds: handedOver + touched.seconds };
}

/** A fast answer with wrong bytes is none. */
async function check(mapping: Mapping, snapshot: string, order: Uint32Array): Promise<void> {
  const { pageSize } = mapping;
  const fd = openSync(snapshot, 'r');
  try {
    for (let sample = 0; sample < SAMPLES; sample++) {
      const page = order[Math.floor((sample * order.length) / SAMPLES)]!;
      const expected = Buffer.alloc(pageSize);
      readSync(fd, expected, 0, pageSize, page * pageSize);
      const actual = await mapping.read(page * pageSize, pageSize, { signal: stop.signal });
      if (!actual.equals(expected)) throw new UffdError('ERR_SOURCE_CHANGED', `page ${page} has wrong bytes`);
    }
  } finally {
    closeSync(fd);
  }
}
