// Bringing pages before they are asked for, with a source that takes its time: demand does not wait for it.
import { afterEach, describe, expect, it } from 'vitest';
import { FaultServer, type FaultServerOptions, type PageSource, objectSource } from 'userfaultfd';
import { Client, PAGE, patterns } from './support.js';
import { milliseconds } from '../support/deadline.js';

const PAGES = 4096;
const sizeBytes = PAGES * PAGE;
const DELAY_MS = 150;
const servers: FaultServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

/** Takes its time with everything, and says how much it is asked for at once. */
function slowObject(): PageSource & {
  underWay: number;
  most: number;
  reads: number;
  pages: { first: number; count: number }[];
} {
  return {
    underWay: 0,
    most: 0,
    reads: 0,
    pages: [],
    async read(target, targetOffset, length, offset) {
      this.reads++;
      this.pages.push({ first: offset / PAGE, count: length / PAGE });
      this.most = Math.max(this.most, ++this.underWay);
      await new Promise((resolve) => setTimeout(resolve, DELAY_MS));
      this.underWay--;
      for (let i = 0; i < length; i += PAGE) {
        target.fill((((offset + i) / PAGE) % 250) + 1, targetOffset + i, targetOffset + i + PAGE);
      }
    },
  };
}

async function serverOf(source: PageSource, options: Partial<FaultServerOptions>): Promise<FaultServer> {
  const spec = objectSource(source, { sizeBytes });
  const server = await FaultServer.start({ source: spec, workers: 1, faultAround: 1, ...options });
  servers.push(server);
  return server;
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('backgroundFill', () => {
  it('asks for one part at a time; a fault is answered meanwhile', async () => {
    const source = slowObject();
    const server = await serverOf(source, { backgroundFill: true });
    using client = await new Client(PAGES, 'anonymous').attach(server);
    await until(() => source.reads === 1);
    const started = performance.now();
    expect(await client.read(PAGES - 1)).toEqual(patterns(PAGES - 1, 1));
    expect(performance.now() - started).toBeLessThan(milliseconds(2 * DELAY_MS));
    expect(source.most).toBe(2);
    await until(() => source.underWay === 0 && source.reads > 8);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
    const [stats] = await server.stats();
    expect(stats).toMatchObject({ faults: 1, filledPages: PAGES });
  });

  it('two clients take turns', async () => {
    const source = slowObject();
    const server = await serverOf(source, { backgroundFill: true });
    using one = await new Client(PAGES, 'anonymous').attach(server);
    using other = await new Client(PAGES).attach(server);
    await until(() => source.reads >= 4);
    const filled = (await server.summaries()).map(({ filledPages }) => filledPages);
    expect(Math.min(...filled)).toBeGreaterThan(0);
    server.release(one.session);
    server.release(other.session);
  });
});

describe('replay', () => {
  it('brings these pages and no others; a page size of another kind brings none', async () => {
    const extents = Float64Array.of(3, 2, 100, 1);
    const source = slowObject();
    const server = await serverOf(source, { replay: { pageSize: PAGE, extents } });
    using client = await new Client(PAGES).attach(server);
    const deadline = performance.now() + 10_000;
    while ((await server.summaries())[0]!.filledPages < 3 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(source.reads).toBe(2);
    expect(await client.read(3, 2)).toEqual(patterns(3, 2));
    const [stats] = await server.stats();
    expect(stats).toMatchObject({ filledPages: 3, faults: 0 });

    const huge = await serverOf(slowObject(), { replay: { pageSize: 2 ** 21, extents } });
    using another = await new Client(PAGES).attach(huge);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await huge.summaries())[0]).toMatchObject({ session: another.session, filledPages: 0 });
  });
});

describe('a fault while a working set is replayed', () => {
  it('on one of its pages brings others of them; on another page, what lies around it', async () => {
    const source = slowObject();
    // Far in front of the pages that are looked at: the replay is not there yet.
    const extents = Float64Array.of(0, 2048, 3000, 1, 3002, 2);
    const server = await serverOf(source, { replay: { pageSize: PAGE, extents }, faultAround: 8 });
    using client = await new Client(PAGES, 'anonymous').attach(server);
    await until(() => source.reads > 0);
    const filledBy = async (page: number) => {
      const before = source.pages.length;
      expect(await client.read(page)).toEqual(patterns(page, 1));
      return source.pages.slice(before).filter(({ first }) => first >= 2048);
    };
    expect(await filledBy(3000)).toEqual([{ first: 3000, count: 1 }]);
    expect(await filledBy(3003)).toEqual([{ first: 3002, count: 2 }]);
    expect(await filledBy(3020)).toEqual([{ first: 3016, count: 8 }]);
  });
});

describe('record', () => {
  it('notes what was asked for and came along, and not what came ahead', async () => {
    const server = await serverOf(slowObject(), {
      faultAround: 4,
      record: true,
      replay: { pageSize: PAGE, extents: Float64Array.of(200, 8) },
    });
    expect(server.workingSet()).toBeUndefined();
    using client = await new Client(PAGES).attach(server);
    await client.read(6);
    await client.read(203);
    expect(server.workingSet()).toEqual({ pageSize: PAGE, extents: Float64Array.of(4, 4) });
  });
});
