// Guard regions (MADV_GUARD_INSTALL) in registered memory: an access is SIGSEGV, and no userfaultfd hears of it.
import { describe, expect, test } from 'vitest';
import { MemoryFaultError, scanPages } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { lacks } from '../support/requires.js';
import { memories, needsOf, prepare } from './memories.js';

const signal = () => deadline(8000);

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize, minor, huge } = memory;
  needsOf(memory, name === 'anon' ? 'guard-anon' : 'guard-shmem');

  if (huge) {
    test('there are no guards of huge pages', () => {
      const { mapping } = prepare(memory, 1, ['missing']);
      expect(() => {
        mapping.advise('guardInstall');
      }).toThrow(expect.objectContaining({ code: 'EINVAL', syscall: 'madvise' }));
    });
    return;
  }

  test('uffd: a guarded page is SIGSEGV, not a message; taken away, it is missing again', async () => {
    const { uffd, mapping, region } = prepare(memory, 4, ['missing']);
    uffd.copy({ region, page: 0 }, Buffer.alloc(pageSize, 1));
    mapping.advise('guardInstall', pageSize, 2 * pageSize);
    for (const page of [1, 2]) {
      await expect(mapping.read(page * pageSize, 1, { signal: signal() })).rejects.toMatchObject({
        signal: 'SIGSEGV',
        page,
      });
      const writing = mapping.write(page * pageSize, Buffer.of(1), { signal: signal() });
      await expect(writing).rejects.toBeInstanceOf(MemoryFaultError);
    }
    expect(uffd.queue).toEqual({ pending: 0, total: 0 });
    if (!lacks('pagemap-guard')) {
      const runs = [...scanPages(mapping, { allOf: ['guard'] })];
      expect(runs.map((run) => [run.offset, run.lengthBytes])).toEqual([[pageSize, 2 * pageSize]]);
    }
    mapping.advise('guardRemove', pageSize, 2 * pageSize);
    const reading = mapping.read(pageSize, 1, { signal: signal() });
    for await (const event of uffd.events({ signal: signal() })) {
      expect(event).toMatchObject({ type: 'pagefault', reason: 'missing', page: 1 });
      break;
    }
    uffd.copy({ region, page: 1 }, Buffer.alloc(pageSize, 2));
    expect((await reading)[0]).toBe(2);
  });

  test('answers to a guarded page: already there; up to 6.18 copy and continue take its place', async () => {
    const { uffd, mapping, region, cache } = prepare(memory, 3, minor ? ['missing', 'minor'] : ['missing']);
    mapping.advise('guardInstall');
    // To shared memory a page of zeroes comes as a copy does.
    const zeroes = uffd.zeropage({ region, page: 0 }).kind;
    if (!memory.shared) expect(zeroes).toBe('already');
    if (!lacks('uffd-poison')) expect(uffd.poison({ region, page: 1 }).kind).toBe('already');
    const outcomes = [uffd.copy({ region, page: 1 }, Buffer.alloc(pageSize, 3)).kind];
    if (minor) {
      await cache(2, 4);
      outcomes.push(uffd.continue({ region, page: 2 }).kind);
    }
    if (memory.shared) expect(zeroes).toBe(outcomes[0]);
    for (const [index, outcome] of outcomes.entries()) {
      const reading = mapping.read((index + 1) * pageSize, 1, { signal: signal() });
      if (outcome === 'installed') expect((await reading)[0]).toBe(index + 3);
      else {
        expect(outcome).toBe('already');
        await expect(reading).rejects.toMatchObject({ signal: 'SIGSEGV', page: index + 1 });
      }
    }
  });
});
