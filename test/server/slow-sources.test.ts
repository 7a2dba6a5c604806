// Sources that take their time, or fail: who waits, for how long, and what comes of it.
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { type PageSource, UffdError, moduleSource, objectSource } from 'userfaultfd';
import { milliseconds } from '../support/deadline.js';
import { requires } from '../support/requires.js';
import { Client, PAGE, counting, gated, patternOf, patterns, serverOf, slow } from './support.js';

const PAGES = 64;
const sizeBytes = PAGES * PAGE;

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
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const source = moduleSource(
      { module, data: { sizeBytes, gate } },
      { sizeBytes, runsIn: 'fetching', fetchWorkers: 3 },
    );
    const server = await serverOf({ source });
    using stuck = await new Client(PAGES).attach(server);
    using other = await new Client(PAGES).attach(server);
    using third = await new Client(PAGES).attach(server);
    const waiting = Promise.all([60, 61, 62, 63].map((page) => stuck.read(page)));
    try {
      for (const client of [other, third]) expect(await client.read(0, PAGES / 2)).toEqual(patterns(0, PAGES / 2));
      expect(await Promise.race([waiting, delay(0, 'still waiting')])).toBe('still waiting');
    } finally {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
    }
    expect(await waiting).toEqual([61, 62, 63, 64].map((value) => [value]));
  });

  it('a fault that waits too long is poisoned, its fetch given up, and late bytes are not shown', async (context) => {
    requires(context, 'uffd-poison');
    const source = gated(PAGES / 2);
    const server = await serverOf({
      source: objectSource(source, { sizeBytes }),
      faultDeadlineMs: milliseconds(100),
    });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(PAGES - 1)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT', signal: 'SIGBUS' });
    expect((await unserved).slice(1, 3)).toEqual(['poison', PAGES - 1]);
    // Nobody waits for it any more.
    const signal = await source.asked;
    await vi.waitUntil(() => signal?.aborted, { timeout: milliseconds(4000) });
    source.open();
    // Whatever the worker does with the late bytes it has done before it answers the next fault.
    expect(await client.read(0)).toEqual(patterns(0, 1));
    await expect(client.read(PAGES - 1)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect(await client.read(1)).toEqual(patterns(1, 1));
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
      faultDeadlineMs: milliseconds(100),
      faultAround: 16,
    });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(9)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect((await unserved)[3]).toBe('bad sector');
    expect(await client.read(8)).toEqual([9]);
    expect(await client.read(10, 20)).toEqual(patterns(10, 20));
  });

  it.each([
    ['poison', 10_000],
    ['stall', 600],
  ] as const)(
    'a source that cannot be read for a while: read again while somebody waits (%s)',
    async (onFailure, ms) => {
      let failing = true;
      const source: PageSource & { reads: number } = {
        reads: 0,
        read(target, targetOffset, length, offset) {
          source.reads++;
          if (failing) throw new Error('no route to it');
          for (let i = 0; i < length; i += PAGE)
            target.fill(patternOf((offset + i) / PAGE), targetOffset + i, targetOffset + i + PAGE);
        },
      };
      const faultDeadlineMs = milliseconds(ms);
      const server = await serverOf({ source: objectSource(source, { sizeBytes }), onFailure, faultDeadlineMs });
      using client = await new Client(PAGES).attach(server);
      const unserved = onFailure === 'stall' ? once(server, 'unserved') : undefined;
      const started = performance.now();
      const read = client.read(9);
      await vi.waitUntil(() => source.reads > 4, { timeout: milliseconds(8000) });
      if (unserved !== undefined) expect((await unserved).slice(1)).toEqual(['stall', 9, 'no route to it']);
      const [summary] = await server.summaries();
      expect(summary).toMatchObject({ waitingPages: 1, waiting: [{ page: 9, reason: 'no route to it' }] });
      expect(summary!.failedReads).toBeGreaterThan(2);
      failing = false;
      expect(await read).toEqual(patterns(9, 1));
      // Four times a second, after a window and a page of it.
      expect(source.reads).toBeLessThan((performance.now() - started) / 250 + 4);
    },
  );

  it('drains what is slow, and says who is left when it cannot', async () => {
    const server = await serverOf({ source: slow(20, sizeBytes), faultAround: 16 });
    using client = await new Client(PAGES).attach(server);
    await server.drain(10_000);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));

    const stuck = await serverOf({ source: slow(60_000, sizeBytes) });
    using other = await new Client(PAGES).attach(stuck);
    await expect(stuck.drain(200)).rejects.toMatchObject({
      code: 'ERR_DRAIN_TIMEOUT',
      message: expect.stringMatching(/session 1 \(\d+ pages absent/) as string,
    });
    expect(other.session).toBe(1);
  });

  it('a page in front of those that were fetched is there already: who waits for one of them is not forgotten', async () => {
    const source = counting(50);
    const server = await serverOf({ source: objectSource(source, { sizeBytes }), faultAround: 16 });
    using client = await new Client(PAGES).attach(server);
    await client.cache(0, Buffer.alloc(PAGE, 99));
    const reads = await Promise.all([5, 9, 15].map((page) => client.read(page)));
    expect(reads).toEqual([5, 9, 15].map((page) => patterns(page, 1)));
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });

  it('a source that failed: at the end of the server nobody is left to wait for what will never come', async (context) => {
    requires(context, 'uffd-poison');
    let changed = false;
    const source: PageSource = {
      read(target, targetOffset, length, offset) {
        if (changed) throw new UffdError('ERR_SOURCE_CHANGED', 'not what it was');
        for (let i = 0; i < length; i += PAGE)
          target.fill(patternOf((offset + i) / PAGE), targetOffset + i, targetOffset + i + PAGE);
      },
    };
    const server = await serverOf({ source: objectSource(source, { sizeBytes }) });
    using client = await new Client(PAGES, 'shmem', { features: ['eventRemove'] }).attach(server);
    expect(await client.read(0, 8)).toEqual(patterns(0, 8));
    client.mapping.advise('remove', 3 * PAGE, PAGE);
    changed = true;
    const unserved = once(server, 'unserved');
    const draining = server.drain(1000);
    expect((await unserved).slice(1)).toEqual(['poison', -1, 'not what it was']);
    await expect(draining).rejects.toMatchObject({ code: 'ERR_DRAIN_TIMEOUT' });
    await server.close();
    for (const page of [8, 30, PAGES - 1])
      await expect(client.read(page)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT', signal: 'SIGBUS' });
    expect(await client.read(0, 3)).toEqual(patterns(0, 3));
  });

  it('drain: what is asked for meanwhile is read next, and finds a place to be read into', async () => {
    const pages = 32_768;
    const link = new SlowLink();
    const spec = objectSource(link, { sizeBytes: pages * PAGE });
    const server = await serverOf({ source: spec, workers: 1, faultAround: 1 });
    using client = await new Client(pages).attach(server);
    const drained = server.drain(milliseconds(30_000));
    await link.waitsFor(3);
    // From the end: the last ones whose turn it would be.
    for (let page = pages - 1; page > pages - 8; page--) {
      const before = link.requests.length;
      const reading = client.read(page);
      await link.waitsFor(4);
      expect(link.requests.slice(before)).toEqual([{ first: page, pages: 1 }]);
      for (let i = 0; i < 4; i++) link.answer();
      expect(await reading).toEqual(patterns(page, 1));
      await link.waitsFor(3);
    }
    // More at once than there are places.
    const many = Array.from({ length: 6 }, (_, i) => pages - 1000 - i);
    const before = link.requests.length;
    const reading = Promise.all(many.map((page) => client.read(page)));
    await link.waitsFor(4);
    while (link.requests.length < before + many.length) {
      link.answer();
      await link.waitsFor(4);
    }
    expect(link.requests.slice(before).map(({ first }) => first)).toEqual(expect.arrayContaining(many));
    expect(link.requests).toHaveLength(before + many.length);
    link.open();
    expect(await reading).toEqual(many.map((page) => patterns(page, 1)));
    await drained;
    // Of 64 parts, and 13 pages.
    expect(link.requests.length).toBeLessThan(80);
  });
});

/** One answer after the other, in the order they were asked for, each when the test says so. */
class SlowLink implements PageSource {
  readonly requests: { readonly first: number; readonly pages: number }[] = [];
  readonly #unanswered: (() => void)[] = [];
  #opened = false;

  async read(target: Uint8Array, targetOffset: number, length: number, offset: number): Promise<void> {
    this.requests.push({ first: offset / PAGE, pages: length / PAGE });
    if (!this.#opened) await new Promise<void>((resolve) => this.#unanswered.push(resolve));
    for (let i = 0; i < length; i += PAGE)
      target.fill(patternOf((offset + i) / PAGE), targetOffset + i, targetOffset + i + PAGE);
  }

  answer(): void {
    this.#unanswered.shift()!();
  }

  /** Everything is answered from now on. */
  open(): void {
    this.#opened = true;
    for (const answer of this.#unanswered.splice(0)) answer();
  }

  /** Until so many requests have no answer. */
  async waitsFor(count: number): Promise<void> {
    await vi.waitUntil(() => this.#unanswered.length === count, { timeout: milliseconds(5000), interval: 5 });
  }
}
