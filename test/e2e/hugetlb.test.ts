// Huge pages through the socket: faults, fills and draining in units of 2 MiB.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { Mapping, Memfd, Userfaultfd, handOff } from '../../dist/index.js';
import { deadline, within } from '../support/deadline.js';
import { HUGE, reserveHugePages } from '../support/huge-pages.js';
import { requires } from '../support/requires.js';
import { Serve, patternFile, patternOf, temporaryFolder } from './support.js';

const HUGE_PAGES = 4;
const BASE_PER_HUGE = HUGE / 4096;
const folder = temporaryFolder();
const noHugePages = reserveHugePages(8);

describe.each(['copy', 'continue'] as const)('huge pages over the socket, filled by %s', (fill) => {
  beforeEach((context) => {
    requires(context, 'uffd', 'root', 'hugetlb-2M', 'uffd-minor');
    const why = noHugePages();
    if (why !== undefined) context.skip(`hugetlb-2M: ${why}`);
  });

  it('every byte right, a fault for each huge page at most; drained while some are absent', async () => {
    const file = patternFile(folder, HUGE_PAGES * BASE_PER_HUGE, `${fill}.img`);
    const socket = join(folder, `${fill}.sock`);
    const serve = await Serve.start(file, socket, '--fill', fill);
    using memfd = Memfd.create({ sizeBytes: HUGE_PAGES * HUGE, hugetlb: '2M' });
    const mapping = Mapping.map(memfd);
    using uffd = Userfaultfd.open();
    uffd.register(mapping, ['missing', 'minor']);
    using handoff = await handOff(socket, { userfaultfd: uffd, memfd, mappings: [{ mapping, offset: 0 }] });
    const check = async (page: number) => {
      const bytes = await mapping.read(page * HUGE, HUGE, { signal: deadline(8000) });
      for (let base = 0; base < BASE_PER_HUGE; base++) {
        const expected = patternOf(page * BASE_PER_HUGE + base);
        expect([bytes[base * 4096], bytes[base * 4096 + 4095]]).toEqual([expected, expected]);
      }
    };
    await check(1);
    await check(3);
    const stopping = serve.stop();
    expect(await within(handoff.done, 'the drain', 15_000)).toBe('drained');
    expect(await stopping).toBe(0);
    for (let page = 0; page < HUGE_PAGES; page++) await check(page);
    mapping.unmap();
    rmSync(file);
  });
});
