// The HTTP source: the bytes of the pinned object, or an error that says why not.
import { randomBytes } from 'node:crypto';
import { once, setMaxListeners } from 'node:events';
import type { IncomingMessage } from 'node:http';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { httpSource } from 'userfaultfd';
import { Extents } from '../../dist/sources/extents.js';
import { openSource } from '../../dist/sources/http-module.js';
import type { HttpSourceData } from '../../dist/sources/http-module.js';
import { ObjectServer } from '../support/object-server.js';

const SIZE = 3 * 2 ** 20 - 100;
const EXTENT = 256 * 1024;
const bytes = randomBytes(SIZE);
const never = new AbortController().signal;
setMaxListeners(0, never);
const quick = { blockBytes: EXTENT, extentBytes: EXTENT, timeoutMs: 300, attempts: 3, backoffMs: 5 };

async function opened(server: ObjectServer, options: Parameters<typeof httpSource>[1] = {}) {
  const spec = await httpSource(server.url, { ...quick, ...options });
  expect(spec.sizeBytes).toBe(server.bytes.length);
  const source = openSource(spec.module!.data as HttpSourceData);
  const target = new Uint8Array(2 * 2 ** 20);
  const read = async (offset: number, length: number) => {
    await source.read!(target, 0, length, offset, never);
    return Buffer.from(target.subarray(0, length));
  };
  return { source, read, [Symbol.dispose]: () => source.close?.() };
}

describe('a healthy server', () => {
  it('any range: the bytes of the object', async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { cacheBytes: EXTENT });
    const range = fc.tuple(fc.nat(SIZE - 1), fc.integer({ min: 1, max: 600_000 }));
    await fc.assert(
      fc.asyncProperty(range, async ([offset, wanted]) => {
        const length = Math.min(wanted, SIZE - offset);
        expect((await source.read(offset, length)).equals(bytes.subarray(offset, offset + length))).toBe(true);
      }),
      { numRuns: 40 },
    );
    for (const { start, length } of server.asked) {
      expect(start % EXTENT).toBe(0);
      expect(length).toBe(Math.min(EXTENT, SIZE - start));
    }
  });

  it('an extent that is being fetched, or was, is not fetched again', async () => {
    await using server = await ObjectServer.start(bytes);
    server.latencyMs = 50;
    using source = await opened(server);
    await Promise.all(Array.from({ length: 20 }, (_, i) => source.read(i * 4096, 4096)));
    await source.read(100_000, 1000);
    expect(server.asked).toEqual([{ start: 0, length: EXTENT }]);
  });

  it('no more requests at once than were asked for', async () => {
    await using server = await ObjectServer.start(bytes);
    server.latencyMs = 30;
    using source = await opened(server, { concurrency: 2 });
    await Promise.all(Array.from({ length: 12 }, (_, i) => source.read(i * EXTENT, 4096)));
    expect(server.mostUnderWay).toBe(2);
    expect(server.asked).toHaveLength(12);
  });
});

describe('the extents', () => {
  it('keep so many bytes, those used last', async () => {
    const fetched: number[] = [];
    const extents = new Extents({
      sizeBytes: 100,
      blockBytes: 10,
      extentBytes: 10,
      cacheBytes: 30,
      concurrency: 4,
      fetch: (_, offset) => {
        fetched.push(offset / 10);
        return Promise.resolve();
      },
    });
    const use = (index: number) => extents.read(new Uint8Array(10), 0, 10, index * 10, never);
    for (const index of [0, 1, 2, 0, 3, 0, 1]) await use(index);
    expect(fetched).toEqual([0, 1, 2, 3, 1]);
  });

  it('a fetch that fails gives its turn to the next, and is tried again when it is asked for again', async () => {
    let attempts = 0;
    const extents = new Extents({
      sizeBytes: 100,
      blockBytes: 10,
      extentBytes: 10,
      cacheBytes: 100,
      concurrency: 1,
      fetch: () => (attempts++ < 2 ? Promise.reject(new Error('no')) : Promise.resolve()),
    });
    const use = (index: number) => extents.read(new Uint8Array(10), 0, 10, index * 10, never);
    const results = await Promise.allSettled([use(0), use(1), use(2)]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
    await use(0);
    expect(attempts).toBe(4);
  });
});

describe('blocks and the extents around them', () => {
  const BLOCK = EXTENT / 4;

  it('a request begins with what is asked for; another one brings what is missing before it', async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { blockBytes: BLOCK });
    const offset = EXTENT + BLOCK + 5;
    expect((await source.read(offset, 10)).equals(bytes.subarray(offset, offset + 10))).toBe(true);
    const extent = await source.read(EXTENT, EXTENT);
    expect(extent.equals(bytes.subarray(EXTENT, 2 * EXTENT))).toBe(true);
    expect(server.asked).toEqual([
      { start: EXTENT + BLOCK, length: 3 * BLOCK },
      { start: EXTENT, length: BLOCK },
    ]);
  });

  it('a block is there when its bytes are, whatever comes after it', async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { blockBytes: BLOCK });
    let finish: () => void = () => undefined;
    server.behave = (request, response) => {
      response.writeHead(206, { etag: '"one"', 'content-range': rangeOf(request), 'content-length': EXTENT });
      response.write(bytes.subarray(0, BLOCK + 1));
      finish = () => response.end(bytes.subarray(BLOCK + 1, EXTENT));
      return true;
    };
    expect((await source.read(5, 10)).equals(bytes.subarray(5, 15))).toBe(true);
    const second = source.read(BLOCK, 10);
    const waiting = new Promise((resolve) => setTimeout(resolve, 100, 'waiting'));
    expect(await Promise.race([second, waiting])).toBe('waiting');
    finish();
    expect((await second).equals(bytes.subarray(BLOCK, BLOCK + 10))).toBe(true);
    expect(server.asked).toHaveLength(1);
  });

  it('another attempt goes on where the one before it broke off', async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { blockBytes: BLOCK });
    let broken = false;
    server.behave = (request, response) => {
      if (broken) return false;
      broken = true;
      response.writeHead(206, { etag: '"one"', 'content-range': rangeOf(request), 'content-length': EXTENT });
      response.write(bytes.subarray(0, BLOCK + 1), () => setTimeout(() => response.destroy(), 50));
      return true;
    };
    expect((await source.read(0, EXTENT)).equals(bytes.subarray(0, EXTENT))).toBe(true);
    expect(server.asked).toEqual([
      { start: 0, length: EXTENT },
      { start: BLOCK + 1, length: EXTENT - BLOCK - 1 },
    ]);
  });

  it('bytes of a body whose length was not told are shown when it has ended, and was whole', async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { blockBytes: BLOCK, attempts: 1 });
    server.behave = (request, response) => {
      response.writeHead(206, { etag: '"one"', 'content-range': rangeOf(request) });
      response.write(Buffer.alloc(BLOCK, 'Bad gateway. '));
      setTimeout(() => response.end(), 50);
      return true;
    };
    await expect(source.read(0, 10)).rejects.toMatchObject({ code: 'ERR_SOURCE_INVALID' });
  });

  it('nothing comes around while others wait for their turn', async () => {
    await using server = await ObjectServer.start(bytes);
    server.latencyMs = 20;
    using source = await opened(server, { blockBytes: BLOCK, concurrency: 1 });
    await Promise.all([0, 1, 2, 3].map((extent) => source.read(extent * EXTENT, 4096)));
    expect(server.asked.slice(1, 4)).toEqual([1, 2, 3].map((extent) => ({ start: extent * EXTENT, length: BLOCK })));
  });

  it("a failure around what was asked for is nobody else's: it is asked for again", async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { blockBytes: BLOCK, attempts: 1 });
    server.behave = (request, response) => {
      if (!rangeOf(request).startsWith('bytes 0-')) return false;
      response.writeHead(503).end();
      return true;
    };
    await source.read(BLOCK, 4096);
    await new Promise((resolve) => setTimeout(resolve, 50));
    server.behave = () => false;
    expect((await source.read(0, 4096)).equals(bytes.subarray(0, 4096))).toBe(true);
  });

  it('any ranges, at any time: the bytes of the object', async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { blockBytes: BLOCK, cacheBytes: EXTENT });
    const range = fc.tuple(fc.nat(SIZE - 1), fc.integer({ min: 1, max: 600_000 }));
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 4 }), async (ranges) => {
        const target = new Uint8Array(ranges.length * 600_000);
        await Promise.all(
          ranges.map(([offset, wanted], i) =>
            Promise.resolve(source.source.read!(target, i * 600_000, Math.min(wanted, SIZE - offset), offset, never)),
          ),
        );
        ranges.forEach(([offset, wanted], i) => {
          const length = Math.min(wanted, SIZE - offset);
          const read = target.subarray(i * 600_000, i * 600_000 + length);
          expect(bytes.subarray(offset, offset + length).equals(read)).toBe(true);
        });
      }),
      { numRuns: 20 },
    );
  });
});

describe('a read that nobody wants any more', () => {
  it('is not fetched on, unless another waits for the same', async () => {
    await using server = await ObjectServer.start(bytes);
    server.latencyMs = 200;
    using source = await opened(server);
    const [one, other] = [new AbortController(), new AbortController()];
    const read = (offset: number, signal: AbortSignal) =>
      Promise.resolve(source.source.read!(new Uint8Array(4096), 0, 4096, offset, signal));
    const alone = read(EXTENT, one.signal);
    const together = [read(0, one.signal), read(4096, other.signal)];
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(server.underWay).toBe(2);
    one.abort();
    await expect(alone).rejects.toMatchObject({ name: 'AbortError' });
    await expect(together[0]).rejects.toMatchObject({ name: 'AbortError' });
    await together[1];
    expect(server.underWay).toBe(0);
    // Asked for again it is fetched again: what was stopped is not waited for.
    await read(EXTENT, other.signal);
    expect(server.asked.map(({ start }) => start)).toEqual([EXTENT, 0, EXTENT]);
  });

  it('that has failed in part writes nothing to its target afterwards', async () => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server, { attempts: 1 });
    server.behave = (request, response) => {
      if (rangeOf(request).startsWith('bytes 0-')) response.writeHead(503).end();
      else setTimeout(() => server.send(response, EXTENT, 2 * EXTENT - 1), 100);
      return true;
    };
    const target = new Uint8Array(2 * EXTENT);
    await expect(source.source.read!(target, 0, 2 * EXTENT, 0, never)).rejects.toMatchObject({
      code: 'ERR_SOURCE_INVALID',
    });
    target.fill(7);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(target.every((byte) => byte === 7)).toBe(true);
  });
});

const rangeOf = (request: IncomingMessage) => `${request.headers.range!.replace('=', ' ')}/${SIZE}`;

describe('a server that is not well', () => {
  it.each<[string, ObjectServer['behave']]>([
    [
      'busy',
      (_, response) => {
        response.writeHead(503).end();
        return true;
      },
    ],
    [
      'breaking off',
      (_, response) => {
        response.destroy();
        return true;
      },
    ],
    [
      'ending early',
      (request, response) => {
        response.writeHead(206, { etag: '"one"', 'content-range': rangeOf(request) });
        response.end('short');
        return true;
      },
    ],
    ['hanging', () => true],
    [
      'answering with another range',
      (_, response) => {
        response.writeHead(206, { etag: '"one"', 'content-range': `bytes 1-2/${SIZE}` });
        response.end('xx');
        return true;
      },
    ],
    [
      'stopping in the body',
      (request, response) => {
        response.writeHead(206, { etag: '"one"', 'content-range': rangeOf(request), 'content-length': EXTENT });
        response.write(bytes.subarray(0, 1));
        return true;
      },
    ],
  ])('%s: tried again; after the last attempt an error that says so', async (_, behave) => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server);
    let times = 2;
    server.behave = (request, response) => times-- > 0 && behave(request, response);
    expect((await source.read(0, 4096)).equals(bytes.subarray(0, 4096))).toBe(true);
    expect(server.asked).toHaveLength(3);
    times = 3;
    await expect(source.read(EXTENT, 4096)).rejects.toMatchObject({
      code: 'ERR_SOURCE_INVALID',
      message: expect.stringMatching(
        /^http:\/\/127\.0\.0\.1:\d+\/snapshot cannot be read: .*, after 3 attempts$/,
      ) as string,
    });
  });

  it.each<[string, (server: ObjectServer) => void, RegExp]>([
    [
      'another ETag',
      (server) => {
        server.etag = '"two"';
      },
      /has changed since it was opened \(HTTP status 412\)/,
    ],
    [
      'another ETag that If-Match does not keep from being sent',
      (server) => {
        server.behave = (_, response) => {
          server.etag = '"two"';
          server.send(response, EXTENT, 2 * EXTENT - 1);
          return true;
        };
      },
      /ETag "two", was "one"/,
    ],
    [
      'no ETag any more',
      (server) => {
        server.behave = (_, response) => {
          server.etag = undefined;
          server.send(response, EXTENT, 2 * EXTENT - 1);
          return true;
        };
      },
      /ETag none, was "one"/,
    ],
    [
      'another size',
      (server) => {
        server.bytes = Buffer.concat([bytes, Buffer.alloc(1)]);
      },
      /bytes 262144-524287\/3145629, asked for/,
    ],
    [
      'gone',
      (server) => {
        server.behave = (_, response) => {
          response.writeHead(404).end();
          return true;
        };
      },
      /HTTP status 404/,
    ],
  ])('an object that is not what it was, %s: never a mixture, not even of what is kept', async (_, change, reason) => {
    await using server = await ObjectServer.start(bytes);
    using source = await opened(server);
    await source.read(0, 4096);
    change(server);
    const changed = { code: 'ERR_SOURCE_CHANGED', message: expect.stringMatching(reason) as string };
    await expect(source.read(EXTENT, 4096)).rejects.toMatchObject(changed);
    await expect(source.read(0, 4096)).rejects.toMatchObject(changed);
    expect(server.asked).toHaveLength(2);
  });
});

describe('what cannot be served is refused when it is opened', () => {
  it.each<[string, (server: ObjectServer) => void, RegExp]>([
    ['no ETag', (server) => (server.etag = undefined), /gives no strong ETag/],
    ['a weak ETag', (server) => (server.etag = 'W/"one"'), /gives no strong ETag/],
  ])('%s', async (_, change, reason) => {
    await using server = await ObjectServer.start(bytes);
    change(server);
    await expect(httpSource(server.url, quick)).rejects.toMatchObject({
      code: 'ERR_SOURCE_INVALID',
      message: expect.stringMatching(reason) as string,
    });
  });

  it('a server without ranges, and one that is not there', async () => {
    const { createServer } = await import('node:http');
    const plain = createServer((_, response) => response.end('all of it')).listen(0, '127.0.0.1');
    await once(plain, 'listening');
    const { port } = plain.address() as { port: number };
    await expect(httpSource(`http://127.0.0.1:${port}/`, quick)).rejects.toThrow(/knows no ranges/);
    plain.close();
    plain.closeAllConnections();
    await once(plain, 'close');
    await expect(httpSource(`http://127.0.0.1:${port}/`, quick)).rejects.toThrow(/ECONNREFUSED.*after 3 attempts/);
  });

  it('options that make no sense', async () => {
    await expect(httpSource('http://127.0.0.1:1/', { extentBytes: 1000 })).rejects.toThrow(/power of two/);
    await expect(httpSource('http://127.0.0.1:1/', { attempts: 0 })).rejects.toThrow(
      /attempts must be positive|positive/,
    );
  });
});
