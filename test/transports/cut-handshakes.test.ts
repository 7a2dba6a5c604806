// A client that goes away in the middle of its handshake, after each byte of it: refused, and nothing of it is kept.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setImmediate as accepted } from 'node:timers/promises';
import { join } from 'node:path';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { HandoffListener } from 'userfaultfd';
import { native } from '../../dist/native/load.js';
import { Connection } from '../../dist/transports/connection.js';
import { Client, PAGE, type MemoryName, patterns, serverOf, slow } from '../server/support.js';
import { milliseconds, within } from '../support/deadline.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

const PAGES = 4;

beforeEach((context) => {
  requires(context, 'uffd');
});

const forms: readonly { form: string; kind: MemoryName; fields: (page: number) => object; descriptors: number }[] = [
  {
    form: 'a userfaultfd, as Firecracker sends it',
    kind: 'anonymous',
    fields: (page) => ({ page_size_kib: page }),
    descriptors: 1,
  },
  { form: 'a userfaultfd', kind: 'anonymous', fields: (page) => ({ page_size: page }), descriptors: 1 },
  { form: 'a userfaultfd and a memfd', kind: 'shmem', fields: (page) => ({ page_size: page }), descriptors: 2 },
];

it.each(forms)('$form', async ({ kind, fields, descriptors }) => {
  const folder = mkdtempSync(join(tmpdir(), 'uffd-cut-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const path = join(folder, 'socket');
  const server = await serverOf({ source: slow(0, PAGES * PAGE) });
  using listener = new HandoffListener(server, { path });
  const refused: string[] = [];
  listener.on('refused', (reason) => refused.push(reason));
  using client = new Client(PAGES, kind, { modes: ['missing'] });
  const { mapping, userfaultfd, file } = client;
  const text = JSON.stringify([
    { base_host_virt_addr: Number(mapping.address), size: mapping.lengthBytes, offset: 0, ...fields(PAGE) },
  ]);
  const handed = [userfaultfd.fd, ...(file === undefined ? [] : [file.fd])];
  expect(handed).toHaveLength(descriptors);
  const connect = () => new Connection(native().UnixSocket.connect(path));

  const before = openDescriptors();
  for (let bytes = 1; bytes < text.length; bytes++) {
    const connection = connect();
    connection.send(text.slice(0, bytes), handed);
    connection.close();
    await accepted();
  }
  await expect.poll(() => refused.length, { timeout: milliseconds(10_000) }).toBe(text.length - 1);
  for (const reason of refused) expect(reason).toMatch(/closed the connection before its handshake was complete/);
  // Closed on threads nobody waits for.
  await expect.poll(openDescriptors, { timeout: milliseconds(5000) }).toBeLessThanOrEqual(before);
  expect(server.sessions).toEqual([]);

  const session = once(listener, 'session');
  using connection = connect();
  connection.send(text, handed);
  await within(session, 'the whole of it is accepted');
  expect(await client.read(0, PAGES)).toEqual(patterns(0, PAGES));
});
