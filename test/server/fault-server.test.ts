// The server in this process: sessions, states, sources that are slow, policies.
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { FaultServer, type FaultServerOptions, type PageSource, moduleSource, objectSource } from 'userfaultfd';
import { Client, PAGE, patterns } from './support.js';
import { requires } from '../support/requires.js';

const PAGES = 64;
const sizeBytes = PAGES * PAGE;
const servers: FaultServer[] = [];

async function serverOf(
  options: Partial<FaultServerOptions> & Pick<FaultServerOptions, 'source'>,
): Promise<FaultServer> {
  const server = await FaultServer.start({ faultAround: 1, ...options });
  servers.push(server);
  return server;
}

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

const slow = (delayMs: number) =>
  moduleSource(
    { module: new URL('./slow-source.mjs', import.meta.url), data: { sizeBytes, delayMs } },
    { sizeBytes, runsIn: 'both' },
  );

/** An object source of the pattern that counts how often each page is read. */
function counting(delayMs = 0): PageSource & { reads: Map<number, number> } {
  const reads = new Map<number, number>();
  return {
    reads,
    async read(target, targetOffset, length, offset) {
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      for (let i = 0; i < length; i += PAGE) {
        const page = (offset + i) / PAGE;
        reads.set(page, (reads.get(page) ?? 0) + 1);
        target.fill((page % 250) + 1, targetOffset + i, targetOffset + i + PAGE);
      }
    },
  };
}

describe('sessions', () => {
  it.each(['shmem', 'anonymous'] as const)('%s memory is served, page by page', async (kind) => {
    const server = await serverOf({ source: slow(1) });
    using client = await new Client(PAGES, kind).attach(server);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
    const [stats] = await server.stats();
    expect(stats).toMatchObject({ session: client.session, pages: PAGES, faults: PAGES, filledPages: PAGES });
    expect(stats?.states.resident).toBe(PAGES);
    server.release(client.session);
    await once(server, 'detached');
    expect(server.sessions).toEqual([]);
  });

  it('attach and detach while others are served', async () => {
    const server = await serverOf({ source: slow(1) });
    using steady = await new Client(PAGES).attach(server);
    const coming = Array.from({ length: 20 }, async () => {
      using client = await new Client(PAGES).attach(server);
      expect(await client.read(3)).toEqual(patterns(3, 1));
      server.release(client.session);
    });
    expect(await steady.read(0, PAGES)).toEqual(patterns(0, PAGES));
    await Promise.all(coming);
  });

  it('a thousand of them, opened and closed, leave no descriptor and no mapping', async () => {
    const server = await serverOf({ source: slow(0) });
    const count = () => ({
      descriptors: readdirSync('/proc/self/fd').length,
      states: readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes('uffd-page-states')).length,
    });
    const before = count();
    for (let i = 0; i < 1000; i++) {
      using client = await new Client(1).attach(server);
      if (i % 50 === 0) expect(await client.read(0)).toEqual(patterns(0, 1));
      const detached = once(server, 'detached');
      server.release(client.session);
      await detached;
    }
    const after = count();
    expect(after.descriptors).toBeLessThanOrEqual(before.descriptors + 2);
    expect(after.states).toBe(0);
  });

  it('pages that hold their content already are continued, never fetched', async () => {
    const source = counting();
    const server = await serverOf({ source: objectSource(source, { sizeBytes }), faultAround: 16 });
    using client = new Client(PAGES);
    client.memfd?.write(Buffer.alloc(sizeBytes, 77), 0);
    await client.attach(server, true);
    expect(await client.read(0, PAGES)).toEqual(new Array(PAGES).fill(77));
    expect(source.reads.size).toBe(0);
    // Dropped behind the server's back: zeroes, and no fetch either.
    client.memfd?.punchHole(0, PAGE);
    expect(await client.read(0)).toEqual([0]);
    expect(source.reads.size).toBe(0);
  });
});

describe('filled by writing', () => {
  it('memory that its client has registered for missing faults alone shows no page before all of it is there', async () => {
    const server = await serverOf({ source: objectSource(counting(), { sizeBytes }), fill: 'continue' });
    using client = new Client(PAGES);
    client.userfaultfd.unregister(client.mapping);
    client.userfaultfd.register(client.mapping, ['missing']);
    await client.attach(server);
    // As if half of the page's bytes had been written: nobody may see it so.
    client.memfd?.write(Buffer.alloc(PAGE / 2, 77), 3 * PAGE);
    expect(await client.read(3)).toEqual(patterns(3, 1));
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });
});

describe('slow sources', () => {
  it('a page is fetched once, however many threads wait for it', async () => {
    const source = counting(200);
    const server = await serverOf({ source: objectSource(source, { sizeBytes }) });
    using client = await new Client(PAGES).attach(server);
    const reads = Array.from({ length: 20 }, () => client.read(5));
    for (const read of reads) expect(await read).toEqual(patterns(5, 1));
    expect(source.reads.get(5)).toBe(1);
  });

  it('what is slow for one session does not slow another', async () => {
    const module = new URL('./blocking-source.mjs', import.meta.url);
    const source = moduleSource(
      { module, data: { sizeBytes, blockMs: 1500 } },
      { sizeBytes, runsIn: 'fetching', fetchWorkers: 3 },
    );
    const server = await serverOf({ source });
    using stuck = await new Client(PAGES).attach(server);
    using other = await new Client(PAGES).attach(server);
    using third = await new Client(PAGES).attach(server);
    const started = performance.now();
    const waiting = Promise.all([60, 61, 62, 63].map((page) => stuck.read(page)));
    for (const client of [other, third]) expect(await client.read(0, 30)).toEqual(patterns(0, 30));
    expect(performance.now() - started).toBeLessThan(1200);
    expect(await waiting).toEqual([61, 62, 63, 64].map((value) => [value]));
  });

  it('a fault that waits too long is poisoned, and late bytes are not shown', async (context) => {
    requires(context, 'uffd-poison');
    const server = await serverOf({ source: slow(600), faultDeadlineMs: 100 });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(PAGES - 1)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT', signal: 'SIGBUS' });
    expect((await unserved).slice(1, 3)).toEqual(['poison', PAGES - 1]);
    await new Promise((resolve) => setTimeout(resolve, 700));
    await expect(client.read(PAGES - 1)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect(await client.read(0)).toEqual(patterns(0, 1));
  });

  it('a source that fails a page: that page is poisoned, the others are served', async (context) => {
    requires(context, 'uffd-poison');
    const source: PageSource = {
      read(target, targetOffset, length, offset) {
        if (offset <= 9 * PAGE && offset + length > 9 * PAGE) throw new Error('bad sector');
        for (let i = 0; i < length; i += PAGE)
          target.fill((offset + i) / PAGE + 1, targetOffset + i, targetOffset + i + PAGE);
      },
    };
    const server = await serverOf({
      source: objectSource(source, { sizeBytes }),
      faultDeadlineMs: 100,
      faultAround: 16,
    });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(9)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect((await unserved)[3]).toBe('bad sector');
    expect(await client.read(8)).toEqual([9]);
    expect(await client.read(10, 20)).toEqual(patterns(10, 20));
  });

  it('removed while it is fetched: zeroes, not the old content', async () => {
    const server = await serverOf({ source: slow(300) });
    using client = await new Client(PAGES, 'shmem', ['eventRemove']).attach(server);
    const page = PAGES - 1;
    const reading = client.read(page);
    await new Promise((resolve) => setTimeout(resolve, 100));
    client.mapping.advise('remove', page * PAGE, PAGE);
    expect(await reading).toEqual([0]);
  });

  it('drains what is slow, and says who is left when it cannot', async () => {
    const server = await serverOf({ source: slow(20), faultAround: 16 });
    using client = await new Client(PAGES).attach(server);
    await server.drain(10_000);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));

    const stuck = await serverOf({ source: slow(60_000) });
    using other = await new Client(PAGES).attach(stuck);
    await expect(stuck.drain(200)).rejects.toMatchObject({
      code: 'ERR_DRAIN_TIMEOUT',
      message: expect.stringMatching(/session 1 \(\d+ pages absent/) as string,
    });
    expect(other.session).toBe(1);
  });
});

describe('user code that throws', () => {
  const throwing = new URL('./throwing-module.mjs', import.meta.url);

  it('a source: that page fails, the others and the worker go on', async (context) => {
    requires(context, 'uffd-poison');
    const source = moduleSource({ module: throwing }, { sizeBytes, runsIn: 'serving' });
    const server = await serverOf({ source, workers: 1, faultDeadlineMs: 50, faultAround: 4 });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(13)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect((await unserved)[3]).toBe('page 13 is bad');
    expect(await client.read(20, 4)).toEqual(patterns(20, 4));
    await expect(server.drain(300)).rejects.toMatchObject({ code: 'ERR_DRAIN_TIMEOUT' });
  });

  it('a policy: the same', async (context) => {
    requires(context, 'uffd-poison');
    const server = await serverOf({ source: slow(0), policy: { module: throwing }, workers: 1, faultDeadlineMs: 50 });
    using client = await new Client(PAGES).attach(server);
    await expect(client.read(13)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect(await client.read(5)).toEqual(patterns(5, 1));
  });
});

describe('a policy', () => {
  const policy = { module: new URL('./deciding-module.mjs', import.meta.url) };

  it('says what each page is, whoever asked for it, and in the draining too', async (context) => {
    requires(context, 'uffd-poison');
    for (const order of [
      [6, 7, 8],
      [7, 8, 6],
      [8, 6, 7],
    ]) {
      const server = await serverOf({ source: slow(0), policy });
      using client = await new Client(PAGES).attach(server);
      for (const page of order) {
        if (page === 7) await expect(client.read(7)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
        else expect(await client.read(page)).toEqual(page === 8 ? [0] : patterns(page, 1));
      }
    }
    const server = await serverOf({ source: slow(0), policy });
    using client = await new Client(PAGES).attach(server);
    await server.drain(5000);
    expect(await client.read(0, 7)).toEqual(patterns(0, 7));
    await expect(client.read(7)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect(await client.read(8, 2)).toEqual([0, ...patterns(9, 1)]);
  });

  it('that decides what does not exist fails the page, with the reason', async (context) => {
    requires(context, 'uffd-poison');
    const server = await serverOf({ source: slow(0), policy: { ...policy, data: true }, faultDeadlineMs: 50 });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(30)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect((await unserved)[3]).toMatch(/the policy decided 'maybe'/);
  });
});

describe('a client that', () => {
  it('has unmapped its memory but lives: drained all the same', async () => {
    const server = await serverOf({ source: slow(1), faultAround: 16 });
    const client = await new Client(PAGES).attach(server);
    client.mapping.unmap();
    await server.drain(5000);
    client[Symbol.dispose]();
  });

  it('comes and goes while the server is closed: no error', async () => {
    const server = await serverOf({ source: slow(1) });
    const clients = await Promise.all(Array.from({ length: 10 }, () => new Client(2).attach(server)));
    const closing = server.close();
    for (const client of clients) {
      server.orphan(client.session);
      server.release(client.session);
      client[Symbol.dispose]();
    }
    await closing;
    server.orphan(1);
  });
});

describe('memory that changes', () => {
  it('threads that fault while pages are dropped see the content or zeroes, and end', async () => {
    const server = await serverOf({ source: slow(0), faultAround: 4 });
    using client = await new Client(PAGES, 'shmem', ['eventRemove']).attach(server);
    for (let round = 0; round < 50; round++) {
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

  it('fallocated pages get the content, not the zeroes in the page cache', async () => {
    const server = await serverOf({ source: slow(1), faultAround: 16, fill: 'copy' });
    using client = new Client(PAGES);
    client.memfd?.allocate(0, sizeBytes);
    await client.attach(server);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });

  it('is drained with content where the page cache held pages of nobody', async () => {
    const server = await serverOf({ source: slow(1), faultAround: 16 });
    using client = new Client(PAGES);
    client.memfd?.allocate(8 * PAGE, 4 * PAGE);
    await client.attach(server);
    await server.drain(10_000);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });
});

describe('options', () => {
  it.each([
    ['workers', { workers: 0 }],
    ['faultAround', { faultAround: 1.5 }],
    ['faultDeadlineMs', { faultDeadlineMs: -1 }],
    ['spinUs', { spinUs: NaN }],
  ])('%s out of range', async (name, options) => {
    await expect(FaultServer.start({ source: slow(0), ...options })).rejects.toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      message: expect.stringContaining(name) as string,
    });
  });

  it('a source module that cannot be loaded is an error at the start', async () => {
    const source = moduleSource(
      { module: new URL('./no-such.mjs', import.meta.url) },
      { sizeBytes, runsIn: 'serving' },
    );
    await expect(FaultServer.start({ source })).rejects.toMatchObject({ code: 'ERR_WORKER_FAILED' });
  });

  it('attach after close', async () => {
    const server = await serverOf({ source: slow(0) });
    await Promise.all([server.close(), server.close()]);
    using client = new Client(1);
    await expect(client.attach(server)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });

  it('spinning and pinned', async () => {
    const server = await serverOf({ source: slow(0), spinUs: 50, cpus: [0], workers: 1 });
    using client = await new Client(PAGES).attach(server);
    expect(await client.read(0, 8)).toEqual(patterns(0, 8));
  });
});
