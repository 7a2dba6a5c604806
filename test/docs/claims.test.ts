// What the README says of served memory, tried: other mappings, dropped pages, memory touched too early, sealing.
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { FaultServer, type FeatureName, type FillWay, HandoffListener, fileSource, handOff } from '../../dist/index.js';
import { installedFolder } from '../examples/sandbox.js';
import { deadline } from '../support/deadline.js';
import { PAGE, filled, mappingOf, registeredMemfd } from '../support/memory.js';
import { requires } from '../support/requires.js';

beforeEach((context) => {
  requires(context, 'uffd', 'uffd-minor');
});

/** Eight pages of a file, served page by page to a mapping of this process. */
async function served(fill: FillWay, features: FeatureName[] = []) {
  // Made first, so that it goes last.
  const { memfd, mapping, uffd } = registeredMemfd(8, { features });
  const folder = installedFolder();
  const bytes = randomBytes(8 * PAGE);
  writeFileSync(join(folder, 'snapshot.img'), bytes);
  const source = fileSource(join(folder, 'snapshot.img'));
  const server = await FaultServer.start({ source, fill, faultAround: 1 });
  const listener = new HandoffListener(server, { path: join(folder, 'uffd.sock') });
  onTestFinished(async () => {
    listener.close();
    await server.close();
  });
  await handOff(listener.path, { userfaultfd: uffd, memfd, mappings: [{ mapping, offset: 0 }] });
  const page = (number: number) => mapping.read(number * PAGE, PAGE, { signal: deadline() });
  const right = (number: number) => bytes.subarray(number * PAGE, (number + 1) * PAGE);
  return { memfd, mapping, page, right };
}

describe.each(['copy', 'continue'] as const)('--fill %s', (fill) => {
  test('another mapping of the memory sees holes, and what it writes there is lost', async () => {
    const { memfd, page, right } = await served(fill);
    const other = mappingOf(memfd);
    expect(await other.read(0, PAGE)).toEqual(filled(0));
    await other.write(PAGE, filled('x'));
    expect(await page(0)).toEqual(right(0));
    expect(await page(1)).toEqual(right(1));
    expect(await page(2)).toEqual(right(2));
    expect(await other.read(2 * PAGE, PAGE)).toEqual(right(2));
  });

  test('dropped pages read as zeroes, and MADV_DONTNEED drops nothing', async () => {
    const { memfd, mapping, page, right } = await served(fill);
    for (let number = 0; number < 3; number++) expect(await page(number)).toEqual(right(number));
    mapping.advise('remove', 0, PAGE);
    memfd.punchHole(PAGE, PAGE);
    mapping.advise('dontNeed', 2 * PAGE, PAGE);
    expect(await page(0)).toEqual(filled(0));
    expect(await page(1)).toEqual(filled(0));
    expect(await page(2)).toEqual(right(2));
  });

  test('with eventRemove, MADV_DONTNEED of a page that has not come makes it one of zeroes', async () => {
    const { mapping, page, right } = await served(fill, ['eventRemove']);
    expect(await page(0)).toEqual(right(0));
    mapping.advise('dontNeed', 0, 2 * PAGE);
    expect(await page(0)).toEqual(right(0));
    expect(await page(1)).toEqual(filled(0));
    expect(await page(2)).toEqual(right(2));
  });

  test('without it, such a page still comes', async () => {
    const { mapping, page, right } = await served(fill);
    mapping.advise('dontNeed', PAGE, PAGE);
    expect(await page(1)).toEqual(right(1));
  });

  test('the memfd can no longer shrink', async () => {
    const { memfd } = await served(fill);
    expect(() => {
      memfd.resize(PAGE);
    }).toThrow('EPERM');
  });
});

test('minor alone fills holes with zeroes; missing too reports them', async () => {
  const { mapping } = registeredMemfd(1, { modes: ['minor'] });
  expect(await mapping.read(0, PAGE, { signal: deadline() })).toEqual(filled(0));
});

test('a registered mapping gives no ArrayBuffer', () => {
  const { mapping } = registeredMemfd(1);
  expect(() => mapping.view()).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REGISTERED' }) as Error);
});
