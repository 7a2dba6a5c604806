// The server in this process: sessions that come and go, and options.
import { once } from 'node:events';
import { readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FaultServer, Userfaultfd, moduleSource, objectSource } from 'userfaultfd';
import { milliseconds, times } from '../support/deadline.js';
import { Client, PAGE, counting, patterns, serverOf, slow } from './support.js';

const PAGES = 64;
const sizeBytes = PAGES * PAGE;

/** Threads of this process. */
function threads(): number {
  return readdirSync('/proc/self/task').length;
}

describe('sessions', () => {
  it('attach and detach while others are served', async () => {
    const server = await serverOf({ source: slow(1, sizeBytes) });
    using steady = await new Client(PAGES).attach(server);
    const coming = Array.from({ length: 20 }, async () => {
      using client = await new Client(PAGES).attach(server);
      expect(await client.read(3)).toEqual(patterns(3, 1));
      server.release(client.session);
    });
    expect(await steady.read(0, PAGES)).toEqual(patterns(0, PAGES));
    await Promise.all(coming);
  });

  it('a thousand of them (fewer where it takes long), opened and closed, leave no descriptor and no mapping', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    const count = () => ({
      descriptors: readdirSync('/proc/self/fd').length,
      states: readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes('uffd-page-states')).length,
    });
    const before = count();
    for (let i = 0; i < times(1000); i++) {
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
});

describe('a client that', () => {
  it.each(['anonymous', 'shmem'] as const)(
    'has unmapped its memory but lives: drained all the same, %s',
    async (kind) => {
      const server = await serverOf({ source: slow(1, sizeBytes), faultAround: 16 });
      const client = await new Client(PAGES, kind).attach(server);
      client.mapping.unmap();
      await server.drain(milliseconds(5000));
      client[Symbol.dispose]();
    },
  );

  it('has unmapped a great deal: drained without reading it, or trying it page by page', async () => {
    const pages = 2 ** 18;
    const source = counting();
    const server = await serverOf({ source: objectSource(source, { sizeBytes: pages * PAGE }), faultAround: 16 });
    const client = await new Client(pages, 'anonymous').attach(server);
    client.mapping.unmap();
    await server.drain(milliseconds(20_000));
    client[Symbol.dispose]();
    expect(source.reads.size).toBeLessThan(pages / 16);
  });

  it('has unregistered parts of its memory: drained, the content in all the others and nothing in these', async () => {
    const pages = 4096;
    const source = counting();
    const server = await serverOf({ source: objectSource(source, { sizeBytes: pages * PAGE }), faultAround: 16 });
    using client = await new Client(pages, 'anonymous').attach(server);
    // Less than an answer has, more than a step asks for, to the end, and every other page.
    const parts: (readonly [number, number])[] = [
      [3, 5],
      [100, 1400],
      [4000, 4096],
    ];
    for (let page = 2000; page < 2064; page += 2) parts.push([page, page + 1]);
    for (const [from, to] of parts) {
      const start = client.mapping.address + BigInt(from * PAGE);
      client.userfaultfd.unregister({ start, lengthBytes: (to - from) * PAGE });
    }
    await server.drain(milliseconds(20_000));
    const expected = patterns(0, pages);
    for (const [from, to] of parts) expected.fill(0, from, to);
    expect(await client.read(0, pages)).toEqual(expected);
  });

  it('has given a part of it to another userfaultfd: all the rest is unregistered at the end', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    using client = await new Client(8, 'anonymous').attach(server);
    using other = Userfaultfd.open();
    const part = { start: client.mapping.address + BigInt(3 * PAGE), lengthBytes: PAGE };
    client.userfaultfd.unregister(part);
    other.register(part, ['missing']);
    await server.drain(milliseconds(10_000));
    using third = Userfaultfd.open();
    const registered = Array.from({ length: 8 }, (_, page) => page).filter((page) => {
      try {
        third.register({ start: client.mapping.address + BigInt(page * PAGE), lengthBytes: PAGE }, ['missing']);
        return false;
      } catch (error) {
        expect(error).toMatchObject({ code: 'EBUSY' });
        return true;
      }
    });
    // That part is not ours to unregister; Linux 6.1 does it all the same.
    expect(registered.filter((page) => page !== 3)).toEqual([]);
  });

  it('comes and goes while the server is closed: no error', async () => {
    const server = await serverOf({ source: slow(1, sizeBytes) });
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

describe('options', () => {
  it.each([
    ['workers', { workers: 0 }],
    ['faultAround', { faultAround: 1.5 }],
    ['faultDeadlineMs', { faultDeadlineMs: -1 }],
    ['spinUs', { spinUs: NaN }],
    ['cpus', { cpus: [0, -1] }],
    ['cpus', { cpus: [0n] as unknown as number[] }],
    ['cpus', { cpus: ['0'] as unknown as number[] }],
  ])('%s out of range', async (name, options) => {
    await expect(FaultServer.start({ source: slow(0, sizeBytes), ...options })).rejects.toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      message: expect.stringContaining(name) as string,
    });
  });

  it('cpus is an array', async () => {
    const cpus = '0' as unknown as number[];
    await expect(FaultServer.start({ source: slow(0, sizeBytes), cpus })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });

  it('a source module that cannot be loaded is an error at the start', async () => {
    const source = moduleSource(
      { module: new URL('./no-such.mjs', import.meta.url) },
      { sizeBytes, runsIn: 'serving' },
    );
    await expect(FaultServer.start({ source })).rejects.toMatchObject({ code: 'ERR_WORKER_FAILED' });
  });

  it('one worker of several that cannot start: an error, and none is left', async () => {
    const before = threads();
    const asked = new Int32Array(new SharedArrayBuffer(4));
    const module = new URL('./once-module.mjs', import.meta.url);
    const source = moduleSource({ module, data: { asked, sizeBytes } }, { sizeBytes, runsIn: 'serving' });
    await expect(FaultServer.start({ source, workers: 3 })).rejects.toMatchObject({
      code: 'ERR_WORKER_FAILED',
      message: expect.stringContaining('one is enough') as string,
    });
    expect(asked[0]).toBe(3);
    await expect.poll(threads, { timeout: milliseconds(2000) }).toBeLessThanOrEqual(before);
  });

  it('attach after close', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    await Promise.all([server.close(), server.close()]);
    using client = new Client(1);
    await expect(client.attach(server)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });

  it('spinning and pinned', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes), spinUs: 50, cpus: [0], workers: 1 });
    using client = await new Client(PAGES).attach(server);
    expect(await client.read(0, 8)).toEqual(patterns(0, 8));
  });
});
