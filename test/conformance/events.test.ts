// What happens to registered memory besides faults, and the traps in it, on every memory kind.
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Answer, FaultEvent, RegisterModeName, Userfaultfd } from '../../dist/index.js';
import { deadline, milliseconds, times, within } from '../support/deadline.js';
import { nextEvent, nextFault } from '../support/memory.js';
import { lacks, requires } from '../support/requires.js';
import { memories, needsOf } from './memories.js';
import { Puppet } from './puppet.js';

const pageOf = (value: number, bytes: number) => Buffer.alloc(bytes, value);
const signal = () => deadline(8000);

/** Answers missing faults with page number plus one until the promise is settled; the types of what came. */
async function serving<T>(uffd: Userfaultfd, pageSize: number, promise: Promise<T>): Promise<[T, FaultEvent[]]> {
  const stop = new AbortController();
  const seen: FaultEvent[] = [];
  const serve = async () => {
    try {
      for await (const event of uffd.events({ signal: stop.signal })) {
        seen.push(event);
        if (event.type !== 'pagefault') continue;
        uffd.copy(event, pageOf(event.region.firstPage + event.page + 1, pageSize));
      }
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    }
  };
  const served = serve();
  try {
    return [await promise, seen];
  } finally {
    stop.abort();
    await served;
  }
}

describe.each(memories)('on $name', (memory) => {
  const { name, pageSize, shared, minor, huge } = memory;

  needsOf(memory, 'cc');

  test('sigbus: no message; filled, the access goes on; in a child nothing is registered', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 3, ['missing'], ['sigbus']);
    const region = uffd.regions[0]!;
    // BUS_ADRERR
    expect(await puppet.tell('read 1')).toBe('SIGBUS 2');
    // The kernel's own access fails.
    expect(await puppet.tell('pipe 1 0')).toBe('-1 Bad address');
    expect(uffd.queue).toEqual({ pending: 0, total: 0 });
    expect(uffd.copy({ region, page: 1 }, pageOf(7, pageSize)).kind).toBe('installed');
    expect(await puppet.tell('read 1')).toBe('7');
    expect(await puppet.tell('fork-read 2')).toBe('0');
  });

  test('sigbus-wp: a write to a protected page is SIGBUS, a read is none', async (context) => {
    if (name !== 'anon') requires(context, 'uffd-wp-shmem');
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 1, ['wp'], ['sigbus', 'pagefaultFlagWp']);
    const at = { region: uffd.regions[0]!, page: 0 };
    expect(await puppet.tell('write 0 4')).toBe('ok');
    uffd.writeProtect(at);
    expect(await puppet.tell('read 0')).toBe('4');
    expect(await puppet.tell('write 0 5')).toBe('SIGBUS 2');
    uffd.writeProtect(at, { protect: false });
    expect(await puppet.tell('write 0 5')).toBe('ok');
    expect(uffd.queue.total).toBe(0);
  });

  test('poisoned: SIGBUS for the process, EFAULT for the kernel', async (context) => {
    requires(context, 'uffd-poison');
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 2, ['missing']);
    expect(uffd.poison({ region: uffd.regions[0]!, page: 1 }).kind).toBe('installed');
    // BUS_MCEERR_AR, or BUS_ADRERR without CONFIG_MEMORY_FAILURE.
    expect(await puppet.tell('read 1')).toMatch(/^SIGBUS [42]$/);
    expect(await puppet.tell('pipe 1 0')).toBe('-1 Bad address');
    expect(uffd.queue.total).toBe(0);
  });

  test('fork: the child has a userfaultfd of its own, and faults there', async (context) => {
    requires(context, 'uffd-event-fork');
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 3, ['missing'], ['eventFork']);
    const told = puppet.tell('fork-read 1');
    const event = await nextEvent(uffd, signal());
    if (event.type !== 'fork') throw new Error(event.type);
    using child = event.userfaultfd;
    const fault = await nextFault(child, signal());
    expect(fault).toMatchObject({ reason: 'missing', page: 1 });
    expect(child.copy(fault, pageOf(9, pageSize)).kind).toBe('installed');
    expect(await told).toBe('9');
    expect(uffd.queue.total).toBe(0);
    // The child is gone: its memory is, its parent's is not.
    await expect.poll(() => child.alive, { timeout: milliseconds(4000) }).toBe(false);
    expect(child.copy({ region: fault.region, page: 2 }, pageOf(1, pageSize)).kind).toBe('gone');
    expect(uffd.alive).toBe(true);
  });

  test('remap: faults come from the new address, and say which page it was', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 4, ['missing'], ['eventRemap']);
    const before = uffd.regions[0]!.start;
    const [address, seen] = await serving(uffd, pageSize, puppet.tell('move'));
    expect(seen).toEqual([{ type: 'remap', from: before, to: BigInt(address), lengthBytes: BigInt(4 * pageSize) }]);
    const [value] = await serving(uffd, pageSize, puppet.tell('read 2'));
    expect(value).toBe('3');
  });

  test('mmap-changing: until a REMOVE event is read every answer is changing, and nothing is done', async () => {
    const modes: RegisterModeName[] = ['missing', ...(minor ? (['minor'] as const) : [])];
    // Protection of shared memory is younger than the events.
    if (name === 'anon' || !lacks('uffd-wp-shmem')) modes.push('wp');
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 4, modes, ['eventRemove']);
    const at = { region: uffd.regions[0]!, page: 3 };
    const bytes = pageOf(1, pageSize);
    const dropping = puppet.tell(shared ? 'remove 1 2' : 'drop 1 2');
    const other = () => uffd.copy({ ...at, page: 0 }, bytes).kind;
    await expect.poll(other, { timeout: milliseconds(4000) }).toBe('changing');
    const answers: Answer[] = [
      { answer: 'copy', at, bytes },
      ...(lacks('uffd-poison') ? [] : [{ answer: 'poison', at } as const]),
      ...(modes.includes('wp') ? [{ answer: 'writeprotect', at } as const] : []),
      ...(huge ? [] : [{ answer: 'zeropage', at } as const]),
      ...(minor ? [{ answer: 'continue', at } as const] : []),
      ...(name === 'anon' && !lacks('uffd-move') ? [{ answer: 'move', at, source: puppet.start } as const] : []),
    ];
    for (const outcome of uffd.answer(answers)) expect(outcome).toEqual({ kind: 'changing', bytes: 0 });
    // A wake is no change.
    uffd.wake(at);
    const [said, seen] = await serving(uffd, pageSize, dropping);
    expect(said).toBe('ok');
    expect(seen).toMatchObject([{ type: 'remove' }]);
    expect(uffd.copy(at, bytes).kind).toBe('installed');
  });

  test('remove: told before it happens, and what was dropped is missing again', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 4, minor ? ['missing', 'minor'] : ['missing'], ['eventRemove']);
    const { start } = uffd.regions[0]!;
    expect((await serving(uffd, pageSize, puppet.tell('read 1')))[0]).toBe('2');
    const [said, seen] = await serving(uffd, pageSize, puppet.tell(shared ? 'remove 1 2' : 'drop 1 2'));
    expect(said).toBe('ok');
    expect(seen).toEqual([{ type: 'remove', start: start + BigInt(pageSize), end: start + BigInt(3 * pageSize) }]);
    const [value, faults] = await serving(uffd, pageSize, puppet.tell('read 1'));
    expect(value).toBe('2');
    expect(faults).toMatchObject([{ type: 'pagefault', reason: 'missing', page: 1 }]);
  });

  test('unmap: the range is cut out of the region', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 4, ['missing'], ['eventUnmap']);
    const { start } = uffd.regions[0]!;
    const [said, seen] = await serving(uffd, pageSize, puppet.tell('unmap 1 2'));
    expect(said).toBe('ok');
    expect(seen).toEqual([{ type: 'unmap', start: start + BigInt(pageSize), end: start + BigInt(3 * pageSize) }]);
    expect(uffd.regions.map(({ firstPage, pages }) => [firstPage, pages])).toEqual([
      [0, 1],
      [3, 1],
    ]);
    const [last] = uffd.regions.slice(-1);
    expect(uffd.copy({ region: last!, page: 0 }, pageOf(8, pageSize)).kind).toBe('installed');
    expect(await puppet.tell('read 3')).toBe('8');
  });

  test('a process that is gone: every answer says so, a wake is harmless', async () => {
    const puppet = new Puppet();
    const hasWp = name === 'anon' || !lacks('uffd-wp-shmem');
    const uffd = await puppet.registered(name, 1, hasWp ? ['missing', 'wp'] : ['missing']);
    const at = { region: uffd.regions[0]!, page: 0 };
    puppet.kill();
    await expect.poll(() => uffd.alive, { timeout: milliseconds(4000) }).toBe(false);
    expect(uffd.copy(at, pageOf(1, pageSize)).kind).toBe('gone');
    if (!lacks('uffd-poison')) expect(uffd.poison(at).kind).toBe('gone');
    expect(uffd.writeProtect(at).kind).toBe('gone');
    uffd.wake(at);
  });

  test('a signalled kernel-mode faulter: messages by the thousand for one page, one answer for all', async () => {
    const puppet = new Puppet();
    const uffd = await puppet.registered(name, 1, ['missing']);
    const told = puppet.tell('pipe 0 10');
    let messages = 0;
    for await (const batch of uffd.batches({ signal: signal() })) {
      messages += batch.length;
      expect(batch.every((event) => event.type === 'pagefault' && event.page === 0)).toBe(true);
      if (messages > times(1000)) break;
    }
    uffd.copy({ region: uffd.regions[0]!, page: 0 }, pageOf(1, pageSize));
    expect(await told).toMatch(/^1 /);
  });
});

test('page faults are read before older events', async (context) => {
  requires(context, 'uffd', 'cc');
  const puppet = new Puppet();
  const uffd = await puppet.registered('anon', 4, ['missing'], ['eventRemove']);
  const told = puppet.tell('race 1 2');
  await expect.poll(() => uffd.queue.pending, { timeout: milliseconds(4000) }).toBe(1);
  for await (const batch of uffd.batches({ signal: signal() })) {
    expect(batch).toMatchObject([{ type: 'pagefault', page: 2 }, { type: 'remove' }]);
    break;
  }
  // The event has been read, but its thread has not run on yet.
  const answer = () => uffd.copy({ region: uffd.regions[0]!, page: 2 }, pageOf(5, puppet.pageSize)).kind;
  await expect.poll(answer, { timeout: milliseconds(4000) }).toBe('installed');
  expect(await told).toBe('5');
});

/** A shell from before descriptors ran out, which sets how many this process may have. */
class DescriptorLimit {
  readonly #shell = spawn('sh', { stdio: ['pipe', 'pipe', 'inherit'] });
  readonly #lines = createInterface({ input: this.#shell.stdout })[Symbol.asyncIterator]();

  async set(limit: string): Promise<void> {
    this.#shell.stdin.write(`prlimit --pid ${process.pid} --nofile=${limit}: && echo set\n`);
    expect((await within(this.#lines.next(), 'prlimit')).value).toBe('set');
  }

  end(): void {
    this.#shell.kill('SIGKILL');
  }
}

test('a fork when descriptors have run out: EMFILE, and the event is there once there are some', async (context) => {
  requires(context, 'uffd', 'cc', 'uffd-event-fork', 'prlimit');
  const puppet = new Puppet();
  const uffd = await puppet.registered('anon', 2, ['missing'], ['eventFork']);
  const limit = new DescriptorLimit();
  const before = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))![1]!;
  await limit.set(before);
  // The number that the next descriptor would have is the limit.
  const next = openSync('/dev/null', 'r');
  closeSync(next);
  const told = puppet.tell('fork-read 1');
  try {
    await limit.set(String(next));
    await expect(nextEvent(uffd, signal())).rejects.toMatchObject({ code: 'EMFILE', syscall: 'read' });
  } finally {
    await limit.set(before);
    limit.end();
  }
  const event = await nextEvent(uffd, signal());
  if (event.type !== 'fork') throw new Error(event.type);
  using child = event.userfaultfd;
  const fault = await nextFault(child, signal());
  child.copy(fault, pageOf(3, puppet.pageSize));
  expect(await told).toBe('3');
});

test('MADV_DONTNEED without eventRemove: nobody is told, and the page is missing again', async (context) => {
  requires(context, 'uffd', 'cc');
  const puppet = new Puppet();
  const uffd = await puppet.registered('anon', 1, ['missing']);
  const { pageSize } = puppet;
  uffd.copy({ region: uffd.regions[0]!, page: 0 }, pageOf(4, pageSize));
  expect(await puppet.tell('read 0')).toBe('4');
  expect(await puppet.tell('drop 0 1')).toBe('ok');
  expect((await serving(uffd, pageSize, puppet.tell('read 0')))[0]).toBe('1');
});

test('close while an iteration waits: it ends', async (context) => {
  requires(context, 'uffd', 'cc');
  const puppet = new Puppet();
  const uffd = await puppet.registered('anon', 1, ['missing']);
  const iterating = (async () => {
    const seen = [];
    for await (const event of uffd) seen.push(event);
    return seen;
  })();
  await delay(20);
  uffd.close();
  expect(await within(iterating, 'the end of the iteration')).toEqual([]);
});
