// madvise(2): advice whose effect only shows in what the kernel says of the pages.
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { type AdviceName, Mapping, pageEntries, scanPages } from '../../dist/index.js';
import { temporaryFolder } from '../e2e/support.js';
import { deadline, milliseconds } from '../support/deadline.js';
import { PAGE, anonymousMapping, filled } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { smapsBytes, smapsField } from '../support/smaps.js';

// New pages wait on a list of the CPU that made them, 31 at most, and advice passes those over: most of so many are not.
const PAGES = 96;
const MOST = 64;
const folder = temporaryFolder();

/** Gives the advice, again while its effect does not show. Advice goes by the page table: what is not in it is touched. */
async function adviseUntil(mapping: Mapping, advice: AdviceName, shows: () => boolean): Promise<void> {
  const until = performance.now() + milliseconds(3000);
  for (;;) {
    await mapping.touch();
    mapping.advise(advice);
    if (shows()) return;
    if (performance.now() > until) throw new Error(`${advice}: no effect to be seen`);
    await delay(10);
  }
}

async function writtenPages(): Promise<Mapping> {
  const mapping = anonymousMapping(PAGES);
  await mapping.write(0, filled(7, PAGES * PAGE));
  return mapping;
}

async function holds(mapping: Mapping, value: number): Promise<boolean> {
  return (await mapping.read(0, PAGES * PAGE, { signal: deadline() })).equals(filled(value, PAGES * PAGE));
}

test('free: the pages are there until memory is needed, unless they are written again', async () => {
  const mapping = await writtenPages();
  expect(smapsBytes(mapping, 'LazyFree')).toBe(0);
  await adviseUntil(mapping, 'free', () => smapsBytes(mapping, 'LazyFree') >= MOST * PAGE);
  await mapping.write(0, filled(8, PAGES * PAGE));
  expect(smapsBytes(mapping, 'LazyFree')).toBe(0);
  expect(await holds(mapping, 8)).toBe(true);
});

test('cold: not counted as referenced any more, and nothing else', async () => {
  const mapping = await writtenPages();
  const flags = smapsField(mapping, 'VmFlags');
  expect(smapsBytes(mapping, 'Referenced')).toBe(PAGES * PAGE);
  await adviseUntil(mapping, 'cold', () => smapsBytes(mapping, 'Referenced') <= (PAGES - MOST) * PAGE);
  expect(pageEntries(mapping).every(({ present }) => present)).toBe(true);
  expect(smapsBytes(mapping, 'LazyFree')).toBe(0);
  expect(smapsField(mapping, 'VmFlags')).toBe(flags);
  expect(await holds(mapping, 7)).toBe(true);
  expect(smapsBytes(mapping, 'Referenced')).toBe(PAGES * PAGE);
});

test('pageOut of a file: out of the page cache, and read from the disk again', async (context) => {
  requires(context, 'disk');
  const fd = openSync(join(folder, 'paged-out'), 'w+');
  onTestFinished(() => {
    closeSync(fd);
  });
  writeSync(fd, filled(5, PAGES * PAGE));
  // What has not been written back stays.
  fsyncSync(fd);
  using mapping = Mapping.file(fd, { lengthBytes: PAGES * PAGE, protection: 'read' });
  const resident = () => mapping.mincore().filter(Boolean).length;
  await adviseUntil(mapping, 'pageOut', () => resident() <= PAGES - MOST);
  expect(await holds(mapping, 5)).toBe(true);
  expect(resident()).toBe(PAGES);
});

test('pageOut of private memory: swapped, so do its entries and a scan say, until it is touched', async (context) => {
  requires(context, 'swap', 'pagemap-scan');
  const mapping = await writtenPages();
  const swapped = () => pageEntries(mapping).flatMap((entry, page) => (entry.swapped ? [page] : []));
  expect(swapped()).toEqual([]);
  await adviseUntil(mapping, 'pageOut', () => swapped().length >= MOST);
  const out = swapped();
  const pages = [...scanPages(mapping, { allOf: ['swapped'] })].flatMap(({ offset, lengthBytes }) =>
    Array.from({ length: lengthBytes / PAGE }, (_, page) => offset / PAGE + page),
  );
  expect(pages).toEqual(out);
  expect(pageEntries(mapping).every((entry) => entry.present !== entry.swapped)).toBe(true);
  expect(await holds(mapping, 7)).toBe(true);
  expect(pageEntries(mapping).every(({ present, swapped }) => present && !swapped)).toBe(true);
});
