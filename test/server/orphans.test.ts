// Sessions of a process that closes their sockets and lives on: over once none of their memory is registered, no sooner.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  type FaultServer,
  HandoffListener,
  type Handoff,
  Mapping,
  Userfaultfd,
  handOff,
  objectSource,
} from 'userfaultfd';
import { milliseconds, within } from '../support/deadline.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';
import { Client, PAGE, type MemoryName, gated, patternOf, patterns, serverOf, slow } from './support.js';

const PAGES = 64;
const sizeBytes = PAGES * PAGE;

beforeEach((context) => {
  requires(context, 'uffd');
});

function listening(server: FaultServer): string {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-orphans-'));
  const listener = new HandoffListener(server, { path: join(folder, 'socket') });
  onTestFinished(() => {
    listener.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return listener.path;
}

async function handed(path: string, kind: MemoryName, pages = PAGES): Promise<{ client: Client; handoff: Handoff }> {
  const client = new Client(pages, kind, { modes: ['missing'] });
  const { userfaultfd, file, mapping } = client;
  const handoff = await handOff(path, {
    userfaultfd,
    ...(file !== undefined && { memfd: file }),
    mappings: [{ mapping, offset: 0 }],
  });
  return { client, handoff };
}

describe.each(['anonymous', 'shmem'] as const)('%s', (kind) => {
  it('fifty sessions of one process, unmapped and their sockets closed: nothing of them is left', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    const path = listening(server);
    const before = openDescriptors();
    const sessions = [];
    for (let i = 0; i < 50; i++) sessions.push(await handed(path, kind));
    for (const { client } of sessions) expect(await client.read(PAGES / 2)).toEqual(patterns(PAGES / 2, 1));
    expect(server.sessions).toHaveLength(50);
    for (const { client, handoff } of sessions) {
      client[Symbol.dispose]();
      handoff.close();
    }
    await expect.poll(() => server.sessions.length, { timeout: milliseconds(5000) }).toBe(0);
    await expect.poll(openDescriptors, { timeout: milliseconds(5000) }).toBeLessThanOrEqual(before);
  });

  it('one after the other, each at the addresses of the one before: over with the last of them', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    const path = listening(server);
    const before = openDescriptors();
    for (let i = 0; i < 20; i++) {
      const { client, handoff } = await handed(path, kind);
      expect(await client.read(i)).toEqual(patterns(i, 1));
      handoff.close();
      client[Symbol.dispose]();
    }
    // Not one for each of them, though something is registered where it was.
    expect(server.sessions.length).toBeLessThan(10);
    await expect.poll(() => server.sessions.length, { timeout: milliseconds(5000) }).toBe(0);
    await expect.poll(openDescriptors, { timeout: milliseconds(5000) }).toBeLessThanOrEqual(before);
  });
});

it('a userfaultfd that is served already is refused, and goes on where it is', async () => {
  const server = await serverOf({ source: slow(0, sizeBytes) });
  const path = listening(server);
  const before = openDescriptors();
  const { client, handoff } = await handed(path, 'anonymous');
  const { userfaultfd, mapping } = client;
  await expect(handOff(path, { userfaultfd, mappings: [{ mapping, offset: 0 }] })).rejects.toMatchObject({
    code: 'ERR_HANDOFF_REFUSED',
    message: expect.stringContaining('the userfaultfd is that of session 1') as string,
  });
  expect(server.sessions).toEqual([1]);
  expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  handoff.close();
  client[Symbol.dispose]();
  await expect.poll(() => server.sessions.length, { timeout: milliseconds(5000) }).toBe(0);
  await expect.poll(openDescriptors, { timeout: milliseconds(5000) }).toBeLessThanOrEqual(before);
});

it('memory that is filled for one session is not filled for another one too; other parts of it are', async () => {
  const server = await serverOf({ source: slow(0, sizeBytes) });
  using client = await new Client(PAGES).attach(server);
  using mapping = Mapping.map(client.file!);
  using userfaultfd = Userfaultfd.open();
  userfaultfd.register(mapping, ['missing', 'minor']);
  const half = sizeBytes / 2;
  const attachment = { userfaultfd, memory: client.file!, kind: 'shmem', pageSize: PAGE } as const;
  const region = { start: mapping.address, size: sizeBytes, offset: 0 };
  const before = openDescriptors();
  await expect(server.attach({ ...attachment, regions: [region] })).rejects.toMatchObject({
    code: 'ERR_HANDOFF_REFUSED',
    message: expect.stringContaining('is filled for session 1 already') as string,
  });
  await expect.poll(openDescriptors, { timeout: milliseconds(5000) }).toBe(before);
  server.release(client.session);
  await expect.poll(() => server.sessions, { timeout: milliseconds(5000) }).toEqual([]);

  using first = await server.attach({ ...attachment, regions: [{ ...region, size: half }] }).then(() => mapping);
  using other = Userfaultfd.open();
  using second = Mapping.map(client.file!);
  other.register(second, ['missing', 'minor']);
  const rest = { start: second.address + BigInt(half), size: half, offset: half };
  await server.attach({ ...attachment, userfaultfd: other, regions: [rest] });
  expect((await first.read(PAGE, PAGE))[0]).toBe(patternOf(1));
  expect((await second.read(half, PAGE))[0]).toBe(patternOf(PAGES / 2));
});

it('what is not asked for is not brought to a session whose socket is closed', async () => {
  // Of more than one read.
  const pages = 4096;
  const source = gated(0);
  const spec = objectSource(source, { sizeBytes: pages * PAGE });
  const server = await serverOf({ source: spec, workers: 1, backgroundFill: true });
  const { client, handoff } = await handed(listening(server), 'anonymous', pages);
  await within(source.asked, 'the background fill');
  const orphan = vi.spyOn(server, 'orphan');
  handoff.close();
  await vi.waitUntil(() => orphan.mock.calls.length > 0, { timeout: milliseconds(4000) });
  source.open();
  await asked();
  const [stats] = await server.stats();
  expect(stats?.states.absent).toBeGreaterThan(0);
  expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  client[Symbol.dispose]();
});

/** Long enough for every question to have been asked several times, idle as the server is. */
async function asked(): Promise<void> {
  await delay(1500);
}

describe('is kept, and served,', () => {
  it.each([
    ['all of it registered', 0, PAGES],
    ['its first half unregistered', PAGES / 2, PAGES],
    ['its second half unregistered', 0, PAGES / 2],
    ['all but its last page unregistered', PAGES - 1, PAGES],
    ['all but one page unregistered', 17, 18],
  ])('a session with %s', async (_, first, end) => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    const mapping = Mapping.anonymous(sizeBytes);
    const userfaultfd = Userfaultfd.open({ features: [] });
    onTestFinished(() => {
      userfaultfd.close();
      mapping.unmap();
    });
    userfaultfd.register(mapping, ['missing']);
    const { address } = mapping;
    // Two regions: the boundary between them is not one of the mapping.
    const half = sizeBytes / 2;
    const session = await server.attach({
      userfaultfd,
      kind: 'anonymous',
      pageSize: PAGE,
      regions: [
        { start: address, size: half, offset: 0 },
        { start: address + BigInt(half), size: half, offset: half },
      ],
    });
    const unregister = (from: number, to: number) => {
      if (from < to) userfaultfd.unregister({ start: address + BigInt(from * PAGE), lengthBytes: (to - from) * PAGE });
    };
    unregister(0, first);
    unregister(end, PAGES);
    server.orphan(session);
    await asked();
    expect(server.sessions).toEqual([session]);
    const page = await mapping.read((end - 1) * PAGE, PAGE, { signal: AbortSignal.timeout(milliseconds(4000)) });
    expect(new Set(page)).toEqual(new Set([patternOf(end - 1)]));

    const detached = once(server, 'detached');
    unregister(first, end);
    expect(await within(detached, 'the end of the session')).toEqual([session, 'gone', expect.anything()]);
  });

  it('a session whose pages are all there', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    using client = await new Client(PAGES, 'anonymous').attach(server);
    await client.read(0, PAGES);
    server.orphan(client.session);
    await asked();
    expect(server.sessions).toEqual([client.session]);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
  });

  it('a session of memory registered for write-protection too: asking it writes nothing', async () => {
    const server = await serverOf({ source: slow(0, sizeBytes) });
    using client = await new Client(PAGES, 'anonymous', { modes: ['missing', 'wp'] }).attach(server);
    server.orphan(client.session);
    await asked();
    expect(server.sessions).toEqual([client.session]);
    expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
    const [stats] = await server.stats();
    expect(stats).toMatchObject({ faults: PAGES, filledPages: PAGES });
  });
});

it('where it was there is memory of another userfaultfd: nothing is brought there at the end', async () => {
  const server = await serverOf({ source: slow(0, sizeBytes) });
  using client = await new Client(PAGES, 'anonymous').attach(server);
  const { mapping, session } = client;
  server.orphan(session);
  using other = Userfaultfd.open();
  client.userfaultfd.unregister({ start: mapping.address, lengthBytes: sizeBytes });
  const region = other.register({ start: mapping.address, lengthBytes: sizeBytes }, ['missing']);
  await server.drain(milliseconds(5000));
  expect(other.copy({ region, page: 0 }, new Uint8Array(PAGE).fill(7)).kind).toBe('installed');
  expect(other.copy({ region, page: PAGES - 1 }, new Uint8Array(PAGE).fill(7)).kind).toBe('installed');
});
