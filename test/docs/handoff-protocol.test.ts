// docs/handoff-protocol.md against the server: the messages it shows, its limits, and what it says about ends.
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { FaultServer, HandoffListener, type Mapping, fileSource } from '../../dist/index.js';
import { native } from '../../dist/native/load.js';
import { Connection } from '../../dist/transports/connection.js';
import { MAX_HANDSHAKE_BYTES } from '../../lib/transports/handshake.js';
import { MAX_PAGE_SIZE, MAX_REGIONS } from '../../lib/transports/mappings.js';
import { installedFolder } from '../examples/sandbox.js';
import { deadline, within } from '../support/deadline.js';
import { PAGE, registeredAnonymous, registeredMemfd } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { blocksOf, read } from './markdown.js';

type Message = { event: string } & Record<string, unknown>;

const document = 'docs/handoff-protocol.md';
const shown = blocksOf(document).filter(({ language }) => language === 'json');
const [request, ...answers] = shown.map(({ text }) => JSON.parse(text) as unknown);
const shownMappings = request as Record<string, number>[];

function shownAnswer(event: string): Message {
  const found = (answers as Message[]).find((answer) => answer.event === event);
  if (found === undefined) throw new Error(`${document} shows no ${event}`);
  return found;
}

beforeEach((context) => {
  requires(context, 'uffd', 'uffd-minor');
});

const clients: RawClient[] = [];

/** A server of so many random pages; after the test it goes before its clients do. */
async function serving(pages: number): Promise<{ server: FaultServer; path: string; bytes: Buffer }> {
  const folder = installedFolder();
  const bytes = randomBytes(pages * PAGE);
  writeFileSync(join(folder, 'snapshot.img'), bytes);
  const source = fileSource(join(folder, 'snapshot.img'));
  const server = await FaultServer.start({ source, faultDeadlineMs: 300 });
  const listener = new HandoffListener(server, { path: join(folder, 'uffd.sock') });
  onTestFinished(async () => {
    listener.close();
    await server.close();
    for (const client of clients.splice(0)) client.close();
  });
  return { server, path: listener.path, bytes };
}

/** A client that knows the document only: sends what it is given, collects the lines that come back. */
class RawClient {
  readonly #connection: Connection;
  readonly messages: Message[] = [];
  #text = '';
  #changed: () => void = () => undefined;
  ended = false;

  constructor(path: string) {
    this.#connection = new Connection(native().UnixSocket.connect(path));
    clients.push(this);
    const end = () => {
      this.ended = true;
      this.#changed();
    };
    this.#connection.onData(({ bytes }) => {
      if (bytes.length === 0) end();
      const lines = (this.#text + Buffer.from(bytes).toString()).split('\n');
      this.#text = lines.pop()!;
      this.messages.push(...lines.map((line) => JSON.parse(line) as Message));
      this.#changed();
    }, end);
  }

  send(text: string, descriptors: number[] = []): void {
    this.#connection.send(text, descriptors);
  }

  close(): void {
    this.#connection.close();
  }

  async next(): Promise<Message> {
    await within(
      this.#until(() => this.messages.length > 0),
      'a message',
    );
    return this.messages.shift()!;
  }

  async end(): Promise<void> {
    await within(
      this.#until(() => this.ended),
      'the end of the connection',
    );
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }
}

function wire(mapping: Mapping, changes: Record<string, number> = {}): Record<string, number> {
  const base = Number(mapping.address);
  return { base_host_virt_addr: base, size: mapping.lengthBytes, offset: 0, page_size: PAGE, ...changes };
}

test('the message is what the server accepts, in pieces too; then accepted, faults answered, drained, the end', async () => {
  const { server, path, bytes } = await serving(8);
  const { memfd, mapping, uffd } = registeredMemfd(8);
  const message = JSON.stringify([wire(mapping)]);
  expect(Object.keys(wire(mapping))).toEqual(Object.keys(shownMappings[0]!));
  const client = new RawClient(path);
  client.send(message.slice(0, 20), [uffd.fd, memfd.fd]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  client.send(message.slice(20));
  expect(await client.next()).toEqual(shownAnswer('accepted'));
  // Not sealed for its owner: that could be made to wait for ever.
  expect(memfd.seals()).not.toContain('shrink');
  expect(await mapping.read(0, 2 * PAGE, { signal: deadline() })).toEqual(bytes.subarray(0, 2 * PAGE));
  await server.drain();
  expect(await client.next()).toEqual(shownAnswer('drained'));
  await client.end();
  uffd.close();
  expect(await mapping.read(0, 8 * PAGE)).toEqual(bytes);
});

test('refused, with the reason that is shown, and the connection ends', async () => {
  const { path } = await serving(1);
  const { memfd, mapping, uffd } = registeredMemfd(1);
  const client = new RawClient(path);
  client.send(JSON.stringify([wire(mapping, { size: 0 })]), [uffd.fd, memfd.fd]);
  expect(await client.next()).toEqual(shownAnswer('refused'));
  await client.end();
});

test('parked, with a reason like the one that is shown, and the connection stays open', async () => {
  const { path } = await serving(2);
  const { memfd, mapping, uffd } = registeredMemfd(2);
  const client = new RawClient(path);
  client.send(JSON.stringify([wire(mapping, { size: PAGE })]), [uffd.fd, memfd.fd]);
  await client.next();
  const outside = mapping.touch(PAGE, PAGE, { signal: deadline() });
  const parked = await client.next();
  const reasonOf = (message: Message) => String(message['reason']).replace(/0x[0-9a-f]+/, '0x');
  expect(reasonOf(parked)).toBe(reasonOf(shownAnswer('parked')));
  expect(Object.keys(parked)).toEqual(Object.keys(shownAnswer('parked')));
  await expect(outside).rejects.toThrow('SIGBUS');
  expect(client.ended).toBe(false);
});

test("the client's closing the socket does not end the session", async () => {
  const { server, path, bytes } = await serving(2);
  const { memfd, mapping, uffd } = registeredMemfd(2);
  const client = new RawClient(path);
  client.send(JSON.stringify([wire(mapping)]), [uffd.fd, memfd.fd]);
  await client.next();
  client.close();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(await mapping.read(PAGE, PAGE, { signal: deadline() })).toEqual(bytes.subarray(PAGE));
  expect(server.sessions).toHaveLength(1);
});

test('the memfd may be closed once it has been handed over', async () => {
  const { path, bytes } = await serving(2);
  const { memfd, mapping, uffd } = registeredMemfd(2);
  const client = new RawClient(path);
  client.send(JSON.stringify([wire(mapping)]), [uffd.fd, memfd.fd]);
  await client.next();
  memfd.close();
  expect(await mapping.read(0, 2 * PAGE, { signal: deadline() })).toEqual(bytes);
});

test('anonymous memory comes without a memfd', async () => {
  const { path, bytes } = await serving(2);
  const { mapping, uffd } = registeredAnonymous(2);
  const client = new RawClient(path);
  client.send(JSON.stringify([wire(mapping)]), [uffd.fd]);
  await client.next();
  expect(await mapping.read(0, 2 * PAGE, { signal: deadline() })).toEqual(bytes);
});

test('the limits in the document are those in the code', () => {
  const text = read(document).replaceAll(/\s+/g, ' ');
  expect(text).toContain(`at most ${MAX_HANDSHAKE_BYTES / 1024} KiB`);
  expect(text).toContain(`1 to ${MAX_REGIONS.toLocaleString('en')}`);
  expect(text).toContain(`from the base page size to ${MAX_PAGE_SIZE / 2 ** 20} MiB`);
});
