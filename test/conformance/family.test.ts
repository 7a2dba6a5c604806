// A child that uses, moves and drops memory registered by its parent, followed from outside by its events alone: what the
// kernel's unit tests call events and events-wp. The number of faults is exact.
import { describe, expect, test } from 'vitest';
import { requires } from '../support/requires.js';
import { memories, needsOf } from './memories.js';
import { Monitor } from './monitor.js';
import { Puppet } from './puppet.js';

const PAGES = 4;
const DROPPED = 2;

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize } = memory;
  needsOf(memory, 'cc', 'uffd-event-fork');

  test('events: one fault for each page, and one more for each that was dropped', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, PAGES, ['missing'], ['eventFork', 'eventRemap', 'eventRemove']);
    const monitor = new Monitor(pageSize);
    monitor.follow(uffd);
    expect(await puppet.tell('family read')).toBe('ok');
    await monitor.end();
    expect(monitor.counts).toMatchObject({ fork: 1, remap: 1, remove: 1, missing: PAGES + DROPPED, wp: 0, strange: 0 });
  });

  test('events-wp: and a wp fault for each page that is written to', async (context) => {
    if (name !== 'anon') requires(context, 'uffd-wp-shmem');
    const puppet = new Puppet();
    const features = ['eventFork', 'eventRemap', 'eventRemove', 'pagefaultFlagWp'] as const;
    const uffd = await puppet.registered(name, PAGES, ['missing', 'wp'], features);
    const monitor = new Monitor(pageSize, true);
    monitor.follow(uffd);
    expect(await puppet.tell('family write')).toBe('ok');
    await monitor.end();
    expect(monitor.counts).toMatchObject({
      fork: 1,
      remap: 1,
      remove: 1,
      missing: PAGES + DROPPED,
      wp: PAGES,
      minor: 0,
    });
  });
});
