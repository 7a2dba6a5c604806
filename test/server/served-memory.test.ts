// Every kind of memory, however it is registered and filled, and whatever its client does to it meanwhile.
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { type FillWay, Kvm, objectSource } from 'userfaultfd';
import { TouchingGuest } from '../../dist/bench/touching-guest.js';
import { deadline, times, within } from '../support/deadline.js';
import { Client, PAGE, counting, files, gated, memories, patterns, requiresMemory, serverOf, slow } from './support.js';

const PAGES = 64;
const sizeBytes = PAGES * PAGE;

/** Each memory, filled in each way it has. */
const served = memories.flatMap(({ kind, modes }) =>
  (kind === 'anonymous' ? (['copy'] as const) : (['copy', 'continue'] as const)).map((fill: FillWay) => ({
    kind,
    modes,
    fill,
    as: `${kind}, ${modes.join(' and ')}, by ${fill}`,
  })),
);

describe.each(served)('$as', ({ kind, modes, fill }) => {
  it('accesses of the host get the content, page by page', async (context) => {
    requiresMemory(context, kind);
    const server = await serverOf({ workers: 1, source: slow(1, sizeBytes), fill });
    using client = await new Client(PAGES, kind, { modes }).attach(server);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
    const [stats] = await server.stats();
    expect(stats).toMatchObject({ session: client.session, pages: PAGES, faults: PAGES, filledPages: PAGES });
    expect(stats?.states.resident).toBe(PAGES);
    server.release(client.session);
    await once(server, 'detached');
    expect(server.sessions).toEqual([]);
  });

  it('so do vCPUs, through a plain slot over the mapping', async (context) => {
    requiresMemory(context, kind, 'kvm');
    const server = await serverOf({ workers: 1, source: slow(1, sizeBytes), fill });
    using client = await new Client(PAGES, kind, { modes }).attach(server);
    using kvm = Kvm.open();
    await using guest = await TouchingGuest.create(kvm, client, { vcpus: 2, cpus: [] });
    const { sums } = await guest.run(deadline(10_000));
    const half = PAGES / 2;
    expect(sums).toEqual([sumOfWords(patterns(0, half)), sumOfWords(patterns(half, half))]);
    const [stats] = await server.stats();
    expect(stats).toMatchObject({ faults: PAGES, filledPages: PAGES });
  });
});

/** What a vCPU adds up that reads the first word of pages of these bytes. */
function sumOfWords(bytes: readonly number[]): bigint {
  const sum = bytes.reduce((all, byte) => all + BigInt(byte) * 0x0101010101010101n, 0n);
  return BigInt.asUintN(64, sum);
}

describe.each(files)('%s', (kind) => {
  it('pages that hold their content already are continued, never fetched', async (context) => {
    requiresMemory(context, kind);
    for (const modes of [['minor'], ['missing', 'minor']] as const) {
      const source = counting();
      const server = await serverOf({ workers: 1, source: objectSource(source, { sizeBytes }), faultAround: 16 });
      using client = new Client(PAGES, kind, { modes });
      await client.cache(0, Buffer.alloc(sizeBytes, 77));
      await client.attach(server, true);
      expect(await client.read(0, PAGES)).toEqual(new Array(PAGES).fill(77));
      // Dropped behind the server's back: zeroes, and no fetch either.
      client.file!.punchHole(0, PAGE);
      expect(await client.read(0)).toEqual([0]);
      expect(source.reads.size).toBe(0);
    }
  });

  it('removed while it is fetched: zeroes, not the old content', async (context) => {
    requiresMemory(context, kind);
    const page = PAGES - 1;
    const source = gated(page);
    const server = await serverOf({ workers: 1, source: objectSource(source, { sizeBytes }) });
    using client = await new Client(PAGES, kind, { features: ['eventRemove'] }).attach(server);
    const reading = client.read(page);
    await within(source.asked, 'the fetch');
    client.mapping.advise('remove', page * PAGE, PAGE);
    source.open();
    expect(await reading).toEqual([0]);
  });

  it('registered for missing faults alone, filled by writing: no page shows before all of it is there', async (context) => {
    requiresMemory(context, kind);
    const server = await serverOf({ workers: 1, source: objectSource(counting(), { sizeBytes }), fill: 'continue' });
    using client = await new Client(PAGES, kind, { modes: ['missing'] }).attach(server);
    // As if half of the page's bytes had been written: nobody may see it so.
    await client.cache(3 * PAGE, Buffer.alloc(PAGE / 2, 77));
    expect(await client.read(3)).toEqual(patterns(3, 1));
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });

  it('threads that fault while pages are dropped see the content or zeroes, and end', async (context) => {
    requiresMemory(context, kind);
    const server = await serverOf({ workers: 1, source: slow(0, sizeBytes), faultAround: 4 });
    using client = await new Client(PAGES, kind, { features: ['eventRemove'] }).attach(server);
    for (let round = 0; round < Math.max(10, times(50)); round++) {
      const reads = [0, 8, 16, 24].map((first) => client.read(first, 8));
      client.mapping.advise('remove', 0, 32 * PAGE);
      for (const [i, read] of reads.entries()) {
        (await read).forEach((value, page) => {
          expect([0, patterns(i * 8 + page, 1)[0]]).toContain(value);
        });
      }
    }
    expect(await client.read(0, 32)).toEqual(new Array(32).fill(0));
  });

  it('fallocated pages get the content, not the zeroes in the page cache', async (context) => {
    requiresMemory(context, kind);
    const server = await serverOf({ workers: 1, source: slow(1, sizeBytes), faultAround: 16, fill: 'copy' });
    using client = new Client(PAGES, kind);
    client.file!.allocate(0, sizeBytes);
    await client.attach(server);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });

  it('is drained with content where the page cache held pages of nobody', async (context) => {
    requiresMemory(context, kind);
    const server = await serverOf({ workers: 1, source: slow(1, sizeBytes), faultAround: 16 });
    using client = new Client(PAGES, kind);
    client.file!.allocate(8 * PAGE, 4 * PAGE);
    await client.attach(server);
    await server.drain(10_000);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });
});
