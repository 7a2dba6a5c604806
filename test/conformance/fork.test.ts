// Write protection through fork(2): it stays with the child only where the child is followed; a pinned page is copied for
// the child early, and its protection goes the same way.
import { describe, expect, test } from 'vitest';
import { nextEvent } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { memories, needsOf } from './memories.js';
import { Puppet } from './puppet.js';

const cases = [
  { name: 'wp-fork', event: false, pinned: false },
  { name: 'wp-fork-with-event', event: true, pinned: false },
  { name: 'wp-fork-pin', event: false, pinned: true },
  { name: 'wp-fork-pin-with-event', event: true, pinned: true },
] as const;

describe.each(memories)('on $name', (memory) => {
  const { name } = memory;
  needsOf(memory, 'cc');

  for (const one of cases) {
    test(`${one.name}: the bit is in the child only where its fork is followed`, async (context) => {
      if (name !== 'anon') requires(context, 'uffd-wp-shmem');
      if (one.event) requires(context, 'uffd-event-fork');
      // Before 6.4, as this feature, a private huge page kept the bit whoever was followed.
      if (name === 'hugetlb-private') requires(context, 'uffd-wp-unpopulated');
      const puppet = new Puppet();
      const uffd = await puppet.registered(name, 2, ['wp'], one.event ? ['eventFork', 'pagefaultFlagWp'] : []);
      const at = { region: uffd.regions[0]!, page: 0 };
      const inChild = async () => {
        const told = puppet.tell('fork-wp 0');
        if (!one.event) return told;
        const event = await nextEvent(uffd);
        if (event.type !== 'fork') throw new Error(event.type);
        // Open for as long as the child looks: closed, it would take the protection with it.
        using child = event.userfaultfd;
        expect(child.regions).toHaveLength(1);
        return await told;
      };
      expect(await puppet.tell('write 0 1')).toBe('ok');
      if (one.pinned) {
        const pinned = await puppet.tell('pin 0');
        if (pinned !== 'ok') context.skip(`io_uring: a page cannot be pinned: ${pinned}`);
      }
      expect(uffd.writeProtect(at).kind).toBe('installed');
      expect(await puppet.tell('wp 0')).toBe('1');
      expect(await inChild()).toBe(one.event ? '1' : '0');
      expect(await puppet.tell('wp 0')).toBe('1');
      uffd.writeProtect(at, { protect: false });
      expect(await puppet.tell('wp 0')).toBe('0');
      expect(await inChild()).toBe('0');
    });
  }
});
