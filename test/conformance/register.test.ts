// What the kernel says a range can be answered with, for each way to register each kind of memory.
import { describe, expect, test } from 'vitest';
import { type AnswerName, type RegisterModeName, availableFeatures, memoryKinds } from '../../dist/index.js';
import { requires } from '../support/requires.js';
import { needsOf, ownMemories, prepare } from './memories.js';

type Modes = readonly RegisterModeName[];
const combinations: Modes[] = [
  ['missing'],
  ['wp'],
  ['minor'],
  ['missing', 'wp'],
  ['missing', 'minor'],
  ['wp', 'minor'],
  ['missing', 'wp', 'minor'],
];

describe.each(ownMemories)('on $name', (memory) => {
  const { name, minor, huge, wp } = memory;
  needsOf(memory);

  /** uffdio_register.ioctls of 7.3, less what this kernel has not got at all. */
  function expected(modes: Modes): AnswerName[] {
    const { names } = availableFeatures();
    const answers: [AnswerName, boolean][] = [
      ['wake', true],
      ['copy', true],
      ['zeropage', !huge],
      // Listed for shared memory too, where it always fails.
      ['move', !huge && names.has('move')],
      ['writeprotect', modes.includes('wp')],
      ['continue', modes.includes('minor')],
      ['poison', names.has('poison')],
      ['rwprotect', modes.includes('rwp')],
    ];
    return answers.filter(([, is]) => is).map(([answer]) => answer);
  }

  test.for(combinations)('register-ioctls: %j', (modes, context) => {
    if (modes.includes('wp') && name !== 'anon') requires(context, 'uffd-wp-shmem');
    const register = () => [...prepare(memory, 2, modes).region.answers];
    if (modes.includes('wp') && !wp) expect(register).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    else if (modes.includes('minor') && !minor) {
      expect(register).toThrow(
        expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('no page cache') as string }),
      );
    } else expect(register()).toEqual(expected(modes));
  });

  test.for<Modes>([['rwp'], ['missing', 'rwp']])('register-ioctls: %j', (modes, context) => {
    requires(context, 'uffd-rwp');
    if (!wp) return;
    expect([...prepare(memory, 2, modes, ['rwp']).region.answers]).toEqual(expected(modes));
  });

  if (!wp) return;

  test('registered again with more modes, then with fewer: kept, or EBUSY where wp would be lost', (context) => {
    if (name !== 'anon') requires(context, 'uffd-wp-shmem');
    const { uffd, mapping } = prepare(memory, 2, ['missing']);
    expect(uffd.register(mapping, ['missing', 'wp']).answers).toContain('writeprotect');
    const without = () => uffd.register(mapping, ['missing']);
    // Linux 7.3 refuses it; RWP came with the same release.
    if (!availableFeatures().names.has('rwp')) expect(without().answers).not.toContain('writeprotect');
    else expect(without).toThrow(expect.objectContaining({ code: 'EBUSY' }));
  });

  test('the table of kinds says the same: what it has a version for can be registered', () => {
    const { kind } = prepare(memory, 1, ['missing']).mapping;
    expect(kind.registers.missing).toHaveProperty('since');
    expect('since' in kind.registers.minor).toBe(minor);
    expect('since' in kind.answers.zeropage).toBe(!huge);
    expect(kind).toBe(memoryKinds[kind.name]);
  });
});
