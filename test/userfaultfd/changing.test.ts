// Mappings that change under the server: REMOVE and UNMAP events, and what answers say until they are read.
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { deadline, within } from '../support/deadline.js';
import {
  PAGE,
  filled,
  nextEvent,
  nextFault,
  pendingFaults,
  registeredAnonymous,
  userfaultfd,
} from '../support/memory.js';
import { requires } from '../support/requires.js';

beforeEach((context) => {
  requires(context, 'uffd');
});

interface Range {
  start: bigint;
  lengthBytes: number;
}

/** A thread with a mapping of its own; it does what it is told and says when it is done. */
class MappingThread {
  readonly #worker = new Worker(new URL('../support/mapping-thread.mjs', import.meta.url));

  constructor() {
    onTestFinished(async () => {
      await this.#worker.terminate();
    });
  }

  async map(pages: number): Promise<Range> {
    return (await this.#ask({ map: pages * PAGE })) as Range;
  }

  async advise(advice: string, offset: number, lengthBytes: number): Promise<void> {
    await this.#ask({ advise: advice, offset, lengthBytes });
  }

  async unmap(): Promise<void> {
    await this.#ask({ unmap: true });
  }

  #ask(command: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#worker.once('message', resolve);
      this.#worker.once('error', reject);
      this.#worker.postMessage(command);
    });
  }
}

test('changing: until a REMOVE event is read nothing can be filled', async () => {
  const thread = new MappingThread();
  const range = await within(thread.map(4), 'the mapping');
  const uffd = userfaultfd(['eventRemove']);
  const region = uffd.register(range, ['missing']);
  expect(uffd.copy({ region, page: 0 }, filled('1', 4 * PAGE)).kind).toBe('installed');
  const advised = thread.advise('dontNeed', PAGE, 2 * PAGE);
  await expect.poll(() => uffd.copy({ region, page: 3 }, filled('2')).kind).toBe('changing');
  expect(uffd.zeropage({ region, page: 1 })).toEqual({ kind: 'changing', bytes: 0 });
  const end = range.start + BigInt(3 * PAGE);
  expect(await nextEvent(uffd)).toEqual({ type: 'remove', start: range.start + BigInt(PAGE), end });
  await within(advised, 'madvise');
  expect(uffd.copy({ region, page: 3 }, filled('2')).kind).toBe('already');
  expect(uffd.copy({ region, page: 1 }, filled('3', 2 * PAGE)).kind).toBe('installed');
});

test('eventUnmap: the event comes, and then the range is absent', async () => {
  const thread = new MappingThread();
  const range = await within(thread.map(2), 'the mapping');
  const uffd = userfaultfd(['eventUnmap']);
  const region = uffd.register(range, ['missing']);
  const unmapped = thread.unmap();
  const end = range.start + BigInt(range.lengthBytes);
  expect(await nextEvent(uffd)).toEqual({ type: 'unmap', start: range.start, end });
  await within(unmapped, 'munmap');
  await expect.poll(() => uffd.copy({ region, page: 0 }, filled(1)).kind).toBe('absent');
});

test('page faults come before events, in the order the kernel gives', async () => {
  const thread = new MappingThread();
  const range = await within(thread.map(2), 'the mapping');
  const uffd = userfaultfd(['eventRemove']);
  const own = registeredAnonymous(2);
  own.uffd.unregister(own.mapping);
  const region = uffd.register(own.mapping, ['missing']);
  uffd.register(range, ['missing']);
  const advised = thread.advise('dontNeed', 0, PAGE);
  await expect.poll(() => uffd.zeropage({ region, page: 1 }).kind).toBe('changing');
  const reading = own.mapping.read(0, 1, { signal: deadline() });
  await expect.poll(() => pendingFaults(uffd)).toBe(1);
  const fault = await nextFault(uffd);
  expect((await nextEvent(uffd)).type).toBe('remove');
  await within(advised, 'madvise');
  expect(uffd.copy(fault, filled('o')).kind).toBe('installed');
  expect((await reading).toString()).toBe('o');
});

test.each(['dontNeed', 'free', 'remove'] as const)(
  'ERR_WOULD_DEADLOCK: %s on the thread that iterates with eventRemove',
  async (advice) => {
    const { mapping, uffd } = registeredAnonymous(1, ['eventRemove']);
    const controller = new AbortController();
    const iterating = nextEvent(uffd, controller.signal).catch((error: unknown) => error);
    await delay(10);
    expect(() => {
      mapping.advise(advice);
    }).toThrow(expect.objectContaining({ code: 'ERR_WOULD_DEADLOCK' }));
    mapping.advise('normal');
    controller.abort('done');
    await iterating;
  },
);

test('ERR_WOULD_DEADLOCK: moving and populating on the thread that iterates', async () => {
  const { mapping, uffd } = registeredAnonymous(1, ['eventRemap']);
  const controller = new AbortController();
  const iterating = nextEvent(uffd, controller.signal).catch((error: unknown) => error);
  await delay(10);
  const wouldDeadlock = expect.objectContaining({ code: 'ERR_WOULD_DEADLOCK' }) as Error;
  expect(() => {
    mapping.relocate();
  }).toThrow(wouldDeadlock);
  for (const access of ['read', 'write'] as const) {
    expect(() => {
      mapping.populate(access);
    }).toThrow(wouldDeadlock);
  }
  controller.abort('done');
  await iterating;
});

test('without eventRemove nobody waits: a page dropped is missing again', async () => {
  const { mapping, uffd, region } = registeredAnonymous(1);
  uffd.copy({ region, page: 0 }, filled('1'));
  const iterating = nextFault(uffd);
  await delay(10);
  mapping.advise('dontNeed');
  const reading = mapping.read(0, 1, { signal: deadline() });
  expect(await iterating).toMatchObject({ reason: 'missing', page: 0 });
  uffd.zeropage({ region, page: 0 });
  expect(await reading).toEqual(filled(0, 1));
});
