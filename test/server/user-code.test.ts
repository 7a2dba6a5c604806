// Sources and policies of users in the serving workers: what they decide, and what they throw.
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { moduleSource, pageEntries } from 'userfaultfd';
import { milliseconds } from '../support/deadline.js';
import { requires } from '../support/requires.js';
import { Client, PAGE, patterns, serverOf, slow } from './support.js';

const PAGES = 64;
const sizeBytes = PAGES * PAGE;

describe('user code that throws', () => {
  const throwing = new URL('./throwing-module.mjs', import.meta.url);

  it('a source: that page fails, the others and the worker go on', async (context) => {
    requires(context, 'uffd-poison');
    const source = moduleSource({ module: throwing }, { sizeBytes, runsIn: 'serving' });
    const server = await serverOf({ source, workers: 1, faultDeadlineMs: milliseconds(50), faultAround: 4 });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(13)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect((await unserved)[3]).toBe('page 13 is bad');
    expect(await client.read(20, 4)).toEqual(patterns(20, 4));
    // Of memory in which nobody has asked for that page, it is the one that is left.
    using other = await new Client(PAGES).attach(server);
    await expect(server.drain(1000)).rejects.toMatchObject({
      code: 'ERR_DRAIN_TIMEOUT',
      message: expect.stringMatching(/^not drained in time: session 2 \(1 pages absent[^;]*$/) as string,
    });
    for (const { mapping } of [client, other]) {
      const present = pageEntries(mapping).map((entry) => entry.present);
      expect(present).toEqual(Array.from({ length: PAGES }, (_, page) => page !== 13));
    }
    expect(await client.read(14, PAGES - 14)).toEqual(patterns(14, PAGES - 14));
  });

  it('nothing: a source without fetch workers is drained like any other', async () => {
    const module = new URL('./slow-source.mjs', import.meta.url);
    // Twice as large as what is served: all of that is at hand.
    const data = { sizeBytes: 2 * sizeBytes, delayMs: 0 };
    const server = await serverOf({ source: moduleSource({ module, data }, { sizeBytes, runsIn: 'serving' }) });
    using client = await new Client(PAGES).attach(server);
    await server.drain(5000);
    expect(pageEntries(client.mapping).every(({ present }) => present)).toBe(true);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });

  it('a policy: the same', async (context) => {
    requires(context, 'uffd-poison');
    const server = await serverOf({
      source: slow(0, sizeBytes),
      policy: { module: throwing },
      workers: 1,
      faultDeadlineMs: milliseconds(50),
    });
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
      const server = await serverOf({ source: slow(0, sizeBytes), policy });
      using client = await new Client(PAGES).attach(server);
      for (const page of order) {
        if (page === 7) await expect(client.read(7)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
        else expect(await client.read(page)).toEqual(page === 8 ? [0] : patterns(page, 1));
      }
    }
    const server = await serverOf({ source: slow(0, sizeBytes), policy });
    using client = await new Client(PAGES).attach(server);
    await server.drain(5000);
    expect(await client.read(0, 7)).toEqual(patterns(0, 7));
    await expect(client.read(7)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect(await client.read(8, 2)).toEqual([0, ...patterns(9, 1)]);
  });

  it('that decides what does not exist fails the page, with the reason', async (context) => {
    requires(context, 'uffd-poison');
    const server = await serverOf({
      source: slow(0, sizeBytes),
      policy: { ...policy, data: true },
      faultDeadlineMs: milliseconds(50),
    });
    using client = await new Client(PAGES).attach(server);
    const unserved = once(server, 'unserved');
    await expect(client.read(30)).rejects.toMatchObject({ code: 'ERR_MEMORY_FAULT' });
    expect((await unserved)[3]).toMatch(/the policy decided 'maybe'/);
  });
});
