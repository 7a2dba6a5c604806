// Write protection on every memory kind: of pages that are there, of holes, and of what COPY and CONTINUE bring.
import { describe, expect, test } from 'vitest';
import { pageEntries } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { PAGE, anonymousMapping, nextFault, userfaultfd } from '../support/memory.js';
import { lacks, requires } from '../support/requires.js';
import { memories, needsOf, prepare } from './memories.js';

const pageOf = (value: number, bytes: number) => Buffer.alloc(bytes, value);

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize, minor: hasMinor } = memory;
  const signal = () => deadline(8000);

  needsOf(memory, ...(name === 'anon' ? [] : (['uffd-wp-shmem'] as const)));

  test('a write to a protected page is a wp fault; a read is none', async () => {
    const { uffd, mapping, region } = prepare(memory, 2, ['wp']);
    await mapping.write(0, pageOf(1, 2 * pageSize), { signal: signal() });
    expect(uffd.writeProtect({ region, page: 0, pages: 2 }).kind).toBe('installed');
    expect((await mapping.read(pageSize, 1, { signal: signal() }))[0]).toBe(1);
    const writing = mapping.write(pageSize, pageOf(2, 1), { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'wp', write: true, page: 1 });
    expect(uffd.writeProtect(fault, { protect: false }).kind).toBe('installed');
    await writing;
    expect((await mapping.read(pageSize, 1, { signal: signal() }))[0]).toBe(2);
  });

  test('copy, and continue, that protect what they bring', async () => {
    // CONTINUE learned it in 6.4, as this feature did.
    const minor = hasMinor && !lacks('uffd-wp-unpopulated');
    const { uffd, mapping, region, cache } = prepare(memory, 2, minor ? ['missing', 'wp', 'minor'] : ['missing', 'wp']);
    expect(uffd.copy({ region, page: 0 }, pageOf(1, pageSize), { writeProtect: true }).kind).toBe('installed');
    if (minor) {
      await cache(1, 4);
      expect(uffd.continue({ region, page: 1 }, { writeProtect: true }).kind).toBe('installed');
    }
    for (const page of minor ? [0, 1] : [0]) {
      const writing = mapping.write(page * pageSize, pageOf(9, 1), { signal: signal() });
      const fault = await nextFault(uffd, signal());
      expect(fault).toMatchObject({ reason: 'wp', page });
      uffd.writeProtect(fault, { protect: false });
      await writing;
    }
  });

  test('holes: protected without being there, where the kind has markers', async (context) => {
    if (name === 'anon') requires(context, 'uffd-wp-unpopulated');
    const { uffd, mapping, region } = prepare(memory, 2, ['wp'], name === 'anon' ? ['wpUnpopulated'] : []);
    expect(uffd.writeProtect({ region, page: 0, pages: 2 }).kind).toBe('installed');
    const writing = mapping.write(0, pageOf(5, 1), { signal: signal() });
    const fault = await nextFault(uffd, signal());
    expect(fault).toMatchObject({ reason: 'wp', page: 0 });
    uffd.writeProtect(fault, { protect: false });
    await writing;
    expect((await mapping.read(0, 1, { signal: signal() }))[0]).toBe(5);
  });
});

describe('on anon', () => {
  test('wp-unpopulated: markers survive a read, not MADV_DONTNEED', async (context) => {
    requires(context, 'uffd', 'uffd-wp-unpopulated');
    const mapping = anonymousMapping(2);
    const uffd = userfaultfd(['wpUnpopulated']);
    const region = uffd.register(mapping, ['wp']);
    uffd.writeProtect({ region, page: 0, pages: 2 });
    const bits = () => pageEntries(mapping).map((entry) => entry.writeProtected);
    expect(bits()).toEqual([true, true]);
    await mapping.touch(0, PAGE, { signal: deadline() });
    expect(bits()).toEqual([true, true]);
    mapping.advise('dontNeed');
    expect(bits()).toEqual([false, false]);
    uffd.writeProtect({ region, page: 1 });
    expect(bits()).toEqual([false, true]);
  });
});
