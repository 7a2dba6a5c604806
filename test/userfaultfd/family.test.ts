// Following a process that forks, moves, drops and unmaps registered memory, and all of its children.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type FaultEvent, Userfaultfd, memoryKinds } from '../../dist/index.js';
import { deadline, milliseconds, within } from '../support/deadline.js';
import { PAGE, filled } from '../support/memory.js';
import { socketPair } from '../support/native.js';
import { compiled } from '../support/programs.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

/** Answers the faults of one process and of every child it forks; the names of what happened. */
class Monitor {
  readonly seen: string[] = [];
  readonly #running: Promise<void>[] = [];
  readonly #signal = deadline(10_000);

  follow(uffd: Userfaultfd, removed = new Set<number>()): void {
    this.#running.push(this.#serve(uffd, removed));
  }

  async ended(): Promise<void> {
    for (const one of this.#running) await one;
  }

  async #serve(uffd: Userfaultfd, removed: Set<number>): Promise<void> {
    using owned = uffd;
    const ended = setInterval(() => {
      if (!owned.closed && !owned.alive) owned.close();
    }, 20);
    try {
      for await (const event of owned.events({ signal: this.#signal })) this.#handle(owned, event, removed);
    } finally {
      clearInterval(ended);
    }
  }

  #handle(uffd: Userfaultfd, event: FaultEvent, removed: Set<number>): void {
    this.seen.push(event.type);
    if (event.type === 'fork') this.follow(event.userfaultfd, new Set(removed));
    if (event.type === 'remove') {
      for (let at = event.start; at < event.end; at += BigInt(PAGE)) {
        const region = uffd.regions.find((one) => one.contains(at));
        if (region !== undefined) removed.add(region.firstPage + region.pageOf(at));
      }
    }
    if (event.type !== 'pagefault') return;
    const page = event.region.firstPage + event.page;
    // `changing`: an event has to be read first; whoever waits is let go to fault again after it.
    const outcome = removed.has(page) ? uffd.zeropage(event) : uffd.copy(event, filled(page + 1));
    if (outcome.kind !== 'installed') uffd.wake(event);
  }
}

interface Started {
  readonly uffd: Userfaultfd;
  /** Exit status and output, once it has ended. */
  readonly ended: Promise<[status: number | null, output: string]>;
}

/** Starts the process and takes over its userfaultfd. */
async function start(): Promise<Started> {
  const program = compiled(join(import.meta.dirname, 'restless.c'));
  const [here, there] = socketPair();
  const child = spawn(program, {
    stdio: ['ignore', 'pipe', 'pipe', there.fd()],
    timeout: 15_000,
    killSignal: 'SIGKILL',
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (text: Buffer) => (output += text.toString()));
  const ended = new Promise<[number | null, string]>((resolve) => {
    child.once('close', (status) => {
      resolve([status, output]);
    });
  });
  const buffer = new Uint8Array(128);
  const received: ReturnType<typeof here.receive>[] = [];
  await expect
    .poll(() => received.push(here.receive(buffer)) > 0 && received.at(-1), { timeout: milliseconds(5000) })
    .not.toBe(-11);
  const message = received.at(-1)!;
  if (typeof message === 'number') throw new Error(`nothing received: ${message}`);
  const [bytes, , fd] = message;
  const range = JSON.parse(Buffer.from(buffer.subarray(0, bytes)).toString()) as { start: number; length: number };
  here.close();
  there.close();
  const registered = [{ start: BigInt(range.start), lengthBytes: range.length, kind: memoryKinds.anonymous }];
  return { uffd: Userfaultfd.adopt(fd!, registered), ended };
}

test('a process, its child and its grandchild: every byte right, nothing left', async (context) => {
  requires(context, 'uffd', 'uffd-event-fork', 'cc');
  const before = openDescriptors();
  const { uffd, ended } = await start();
  expect([...uffd.features].sort()).toEqual(['eventFork', 'eventRemap', 'eventRemove', 'eventUnmap']);
  const monitor = new Monitor();
  monitor.follow(uffd);
  expect(await within(ended, 'the process', 15_000)).toEqual([0, 'ok\n']);
  await monitor.ended();
  const count = (type: string) => monitor.seen.filter((one) => one === type).length;
  expect(count('fork')).toBe(2);
  expect(count('remove')).toBe(2);
  expect(count('remap')).toBe(1);
  // The child's page, what the second half left behind, and the first half.
  expect(count('unmap')).toBeGreaterThanOrEqual(3);
  expect(count('unknown-pagefault')).toBe(0);
  expect(openDescriptors()).toBe(before);
});

test('a child whose userfaultfd is closed reads zeroes', async (context) => {
  requires(context, 'uffd', 'uffd-event-fork', 'cc');
  const { uffd, ended } = await start();
  for await (const event of uffd.events({ signal: deadline(10_000) })) {
    if (event.type === 'pagefault') uffd.copy(event, filled(event.page + 1));
    if (event.type !== 'fork') continue;
    event.userfaultfd.close();
    break;
  }
  const [status, output] = await within(ended, 'the process', 15_000);
  expect(status).toBe(1);
  expect(output).toContain('child: page 2 is 0, not 3');
  uffd.close();
});
