// Read and write protection (Linux 7.3) through fork(2) and swap: where it goes with the memory, and where it does not.
import { describe, expect, test } from 'vitest';
import type { FaultEvent, Userfaultfd } from '../../dist/index.js';
import { nextEvent, nextFault } from '../support/memory.js';
import { memories, needsOf } from './memories.js';
import { Puppet } from './puppet.js';

type Fork = Extract<FaultEvent, { type: 'fork' }>;

async function forked(uffd: Userfaultfd): Promise<Userfaultfd> {
  const event: FaultEvent = await nextEvent(uffd);
  expect(event.type).toBe('fork');
  return (event as Fork).userfaultfd;
}

describe.each(memories)('on $name', (memory) => {
  const { name } = memory;
  needsOf(memory, 'cc', 'uffd-rwp');

  test('rwp-fork: without the event the child reads on; its parent faults', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 1, ['rwp'], ['rwp']);
    const at = { region: uffd.regions[0]!, page: 0 };
    expect(await puppet.tell('write 0 4')).toBe('ok');
    expect(uffd.rwProtect(at).kind).toBe('installed');
    expect(await puppet.tell('fork-read 0')).toBe('4');
    const reading = puppet.tell('read 0');
    expect(await nextFault(uffd)).toMatchObject({ reason: 'rwp', page: 0 });
    uffd.rwProtect(at, { protect: false });
    expect(await reading).toBe('4');
  });

  const cases = [
    { title: 'rwp-fork: with the event the child faults too, to a userfaultfd of its own', pinned: false },
    { title: 'rwp-fork-pin: of a pinned page, which the child has a copy of', pinned: true },
  ];
  for (const { title, pinned } of cases) {
    test(title, async (context) => {
      const puppet = new Puppet();
      const uffd = await puppet.registered(name, 1, ['rwp'], ['rwp', 'eventFork']);
      const at = { region: uffd.regions[0]!, page: 0 };
      expect(await puppet.tell('write 0 4')).toBe('ok');
      if (pinned) {
        const said = await puppet.tell('pin 0');
        if (said !== 'ok') context.skip(`io_uring: a page cannot be pinned: ${said}`);
      }
      expect(uffd.rwProtect(at).kind).toBe('installed');
      const told = puppet.tell('fork-read 0');
      using child = await forked(uffd);
      const fault = await nextFault(child);
      expect(fault).toMatchObject({ reason: 'rwp', write: false, page: 0 });
      expect(child.rwProtect(fault, { protect: false }).kind).toBe('installed');
      expect(await told).toBe('4');
      expect(await puppet.tell('wp 0')).toBe('1');
      const reading = puppet.tell('read 0');
      expect(await nextFault(uffd)).toMatchObject({ reason: 'rwp', page: 0 });
      uffd.rwProtect(at, { protect: false });
      expect(await reading).toBe('4');
    });
  }

  if (name === 'anon') {
    test('rwp-swap-cow: swapped out, shared by a fork, written to: protected until it is not', async (context) => {
      const puppet = new Puppet();
      const uffd = await puppet.registered(name, 1, ['rwp'], ['rwp', 'eventFork']);
      const at = { region: uffd.regions[0]!, page: 0 };
      expect(await puppet.tell('write 0 4')).toBe('ok');
      expect(uffd.rwProtect(at).kind).toBe('installed');
      if ((await puppet.tell('pageout')) !== '1') context.skip('swap: the page was not swapped out');
      expect(await puppet.tell('wp 0')).toBe('1');
      const told = puppet.tell('fork-write 0 6');
      using child = await forked(uffd);
      const fault = await nextFault(child);
      expect(fault).toMatchObject({ reason: 'rwp', write: true, page: 0 });
      child.rwProtect(fault, { protect: false });
      expect(await told).toBe('ok');
      const reading = puppet.tell('read 0');
      expect(await nextFault(uffd)).toMatchObject({ reason: 'rwp', page: 0 });
      uffd.rwProtect(at, { protect: false });
      expect(await reading).toBe('4');
    });
  }
});
