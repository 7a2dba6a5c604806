// Reading events: one consumer, in batches or one by one, ended in every way there is; no event is lost by it.
import { getEventListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import type { FaultEvent, Mapping, Userfaultfd } from '../../dist/index.js';
import { deadline, within } from '../support/deadline.js';
import {
  PAGE,
  filled,
  nextEvent,
  nextFault,
  pendingFaults,
  registeredAnonymous,
  registeredMemfd,
} from '../support/memory.js';
import { requires } from '../support/requires.js';

beforeEach((context) => {
  requires(context, 'uffd');
});

/** Starts a read of every page and waits until all of them wait in the kernel. */
async function faultsOn(mapping: Mapping, uffd: Userfaultfd, pages: number): Promise<{ reading: Promise<Buffer[]> }> {
  const signal = deadline();
  const reading = Promise.all(Array.from({ length: pages }, (_, page) => mapping.read(page * PAGE, 1, { signal })));
  reading.catch(() => undefined);
  await expect.poll(() => pendingFaults(uffd), { interval: 5 }).toBe(pages);
  return { reading };
}

function answer(uffd: Userfaultfd, event: FaultEvent): void {
  if (event.type === 'pagefault') uffd.copy(event, filled('a'));
}

async function nextBatch(uffd: Userfaultfd): Promise<FaultEvent[]> {
  for await (const batch of uffd.batches({ signal: deadline() })) return batch;
  throw new Error('closed');
}

test('a batch is everything that waits, in one piece', async () => {
  const { mapping, uffd } = registeredAnonymous(10);
  const { reading } = await faultsOn(mapping, uffd, 10);
  const batch = await nextBatch(uffd);
  expect(new Set(batch.map((event) => event.type === 'pagefault' && event.page))).toEqual(new Set(Array(10).keys()));
  for (const event of batch) answer(uffd, event);
  expect(await reading).toHaveLength(10);
});

test('more than a batch comes in several of 64 at most', async () => {
  const { mapping, uffd } = registeredAnonymous(100);
  const { reading } = await faultsOn(mapping, uffd, 100);
  const sizes: number[] = [];
  let sum = 0;
  for await (const batch of uffd.batches({ signal: deadline() })) {
    sizes.push(batch.length);
    for (const event of batch) answer(uffd, event);
    if ((sum += batch.length) === 100) break;
  }
  expect(sizes).toEqual([64, 36]);
  await reading;
});

test('events one by one, for as long as there are accesses', async () => {
  const { mapping, uffd } = registeredAnonymous(200);
  const ended = new AbortController();
  const serving = (async () => {
    for await (const fault of uffd.events({ signal: ended.signal })) answer(uffd, fault);
  })().catch((error: unknown) => error);
  const bytes = await mapping.read(0, 200 * PAGE, { signal: deadline() });
  expect(bytes.equals(filled('a', 200 * PAGE))).toBe(true);
  ended.abort('served');
  expect(await serving).toBe('served');
});

test('break in the middle of a batch: the rest is there for the next consumer', async () => {
  const { mapping, uffd } = registeredAnonymous(5);
  const { reading } = await faultsOn(mapping, uffd, 5);
  const pages = [];
  for (let i = 0; i < 5; i++) {
    const fault = await nextFault(uffd);
    pages.push(fault.page);
    answer(uffd, fault);
  }
  expect(pages.sort()).toEqual([0, 1, 2, 3, 4]);
  await reading;
});

test('an abort in the middle of a batch: the rest is there for the next consumer', async () => {
  const { mapping, uffd } = registeredAnonymous(4);
  const { reading } = await faultsOn(mapping, uffd, 4);
  const controller = new AbortController();
  let seen = 0;
  const iterating = (async () => {
    for await (const fault of uffd.events({ signal: controller.signal })) {
      seen++;
      answer(uffd, fault);
      controller.abort(new Error('after one'));
    }
  })();
  await expect(iterating).rejects.toThrow('after one');
  expect(seen).toBe(1);
  for (const event of await nextBatch(uffd)) answer(uffd, event);
  await reading;
});

test('an abort ends a waiting iteration with its reason and leaves no listener', async () => {
  const { uffd } = registeredAnonymous(1);
  const controller = new AbortController();
  const waiting = nextEvent(uffd, controller.signal);
  const rejected = expect(waiting).rejects.toThrow('no more');
  await delay(10);
  controller.abort(new Error('no more'));
  await within(rejected, 'the iteration', 1000);
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
});

test('a signal that is aborted already reads nothing', async () => {
  const { mapping, uffd } = registeredAnonymous(1);
  const { reading } = await faultsOn(mapping, uffd, 1);
  await expect(nextEvent(uffd, AbortSignal.abort(new Error('before')))).rejects.toThrow('before');
  expect(pendingFaults(uffd)).toBe(1);
  answer(uffd, await nextEvent(uffd));
  await reading;
});

test('close ends a waiting iteration', async () => {
  const { uffd } = registeredAnonymous(1);
  const ended = (async () => {
    for await (const fault of uffd) expect(fault).toBeUndefined();
    return 'ended';
  })();
  await delay(10);
  uffd.close();
  expect(await within(ended, 'the iteration', 1000)).toBe('ended');
});

test('close inside the loop ends it, though more events were read', async () => {
  const { mapping, uffd } = registeredAnonymous(3);
  const { reading } = await faultsOn(mapping, uffd, 3);
  let seen = 0;
  for await (const fault of uffd) {
    expect(fault.type).toBe('pagefault');
    seen++;
    uffd.close();
  }
  expect(seen).toBe(1);
  expect(await reading).toEqual([filled(0, 1), filled(0, 1), filled(0, 1)]);
});

test('one consumer at a time', async () => {
  const { uffd } = registeredAnonymous(1);
  const controller = new AbortController();
  const first = nextEvent(uffd, controller.signal).catch((error: unknown) => error);
  await delay(10);
  await expect(nextEvent(uffd)).rejects.toThrow(expect.objectContaining({ code: 'ERR_ALREADY_ITERATED' }));
  await expect(uffd.batches().next()).rejects.toThrow(expect.objectContaining({ code: 'ERR_ALREADY_ITERATED' }));
  controller.abort('done');
  expect(await first).toBe('done');
  await expect(nextEvent(uffd, AbortSignal.abort('again'))).rejects.toBe('again');
});

test('an error of the consumer ends the iteration and frees the userfaultfd', async () => {
  const { mapping, uffd, region } = registeredAnonymous(1);
  const { reading } = await faultsOn(mapping, uffd, 1);
  const failing = (async () => {
    for await (const fault of uffd.batches()) throw new Error(`cannot serve ${fault.length}`);
  })();
  await expect(failing).rejects.toThrow('cannot serve 1');
  uffd.wake({ region, page: 0 });
  answer(uffd, await nextEvent(uffd));
  await reading;
});

test('closed: iterating and answering are ERR_CLOSED', () => {
  const { uffd, region, mapping } = registeredMemfd(1);
  uffd.close();
  uffd.close();
  expect(uffd.closed).toBe(true);
  const uses = [
    () => uffd.batches(),
    () => uffd.fd,
    () => uffd.alive,
    () => uffd.copy({ region, page: 0 }, filled(1)),
    () => uffd.continue({ region, page: 0 }),
    () => uffd.zeropage({ region, page: 0 }),
    () => uffd.poison({ region, page: 0 }),
    () => uffd.register(mapping, ['missing']),
    () => {
      uffd.unregister(mapping);
    },
    () => {
      uffd.wake({ region, page: 0 });
    },
  ];
  for (const use of uses) expect(use).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
});

test('iterating a closed userfaultfd is ERR_CLOSED too', async () => {
  const { uffd } = registeredAnonymous(1);
  uffd.close();
  await expect(nextEvent(uffd)).rejects.toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
});
