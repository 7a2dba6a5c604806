// The other process of the cases that fork, move and drop memory: puppet.c, told what to do a line at a time.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, onTestFinished } from 'vitest';
import { type FeatureName, type RegisterModeName, Userfaultfd } from '../../dist/index.js';
import { featureMask, registerMask } from '../../dist/userfaultfd/features.js';
import { within } from '../support/deadline.js';
import { socketPair } from '../support/native.js';
import { compiled } from '../support/programs.js';

export type PuppetMemory = 'anon' | 'shmem' | 'shmem-private' | 'hugetlb' | 'hugetlb-private';

export class Puppet {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #socket: ReturnType<typeof socketPair>[0];
  start = 0n;
  pageSize = 0;
  #lengthBytes = 0;

  constructor() {
    const [here, there] = socketPair();
    this.#socket = here;
    this.#child = spawn(compiled(join(import.meta.dirname, 'puppet.c')), {
      stdio: ['pipe', 'pipe', 'inherit', there.fd()],
    });
    there.close();
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    onTestFinished(() => {
      this.kill();
    });
  }

  /** The line it answers with. */
  async tell(line: string, withinMs?: number): Promise<string> {
    this.#child.stdin!.write(`${line}\n`);
    const next = await within(this.#lines.next(), line, withinMs);
    if (next.done === true) throw new Error(`the process ended at: ${line}`);
    return next.value;
  }

  async map(memory: PuppetMemory, pages: number): Promise<void> {
    const [address, pageSize] = (await this.tell(`map ${memory} ${pages}`)).split(' ');
    this.start = BigInt(address!);
    this.pageSize = Number(pageSize);
    this.#lengthBytes = pages * this.pageSize;
  }

  /** Maps memory of one folio, written to; false when the kernel made it of something else. */
  async folio(memory: PuppetMemory, bytes: number): Promise<boolean> {
    const [address, pageSize, whole] = (await this.tell(`folio ${memory} ${bytes}`, 15_000)).split(' ');
    this.start = BigInt(address!);
    this.pageSize = Number(pageSize);
    this.#lengthBytes = bytes;
    return whole === '1';
  }

  /** Maps memory and registers all of it with a userfaultfd of its own, which is given to us. */
  async registered(
    memory: PuppetMemory,
    pages: number,
    modes: readonly RegisterModeName[],
    features: readonly FeatureName[] = [],
  ): Promise<Userfaultfd> {
    await this.map(memory, pages);
    return this.open(modes, features);
  }

  /** The same of memory that it has mapped already. */
  async open(modes: readonly RegisterModeName[], features: readonly FeatureName[] = []): Promise<Userfaultfd> {
    expect(await this.tell(`uffd ${featureMask(features)}`)).toBe('ok');
    expect(await this.tell(`register ${registerMask(modes)}`)).toBe('ok');
    const message = this.#socket.receive(new Uint8Array(1));
    if (typeof message === 'number') throw new Error(`no userfaultfd came: ${message}`);
    const { start, pageSize } = this;
    const uffd = Userfaultfd.adopt(message[2]!, [{ start, lengthBytes: this.#lengthBytes, pageSize }]);
    onTestFinished(() => {
      uffd.close();
    });
    return uffd;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
