// The huge pages a run lacks, reserved by a process of their own that gives them back whatever ends this one.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { freemem } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { UffdError } from '../errors.js';
import { freeHugePages } from '../memory/huge-pages.js';
import { HUGE_PAGE_BYTES } from './areas.js';

const keeper = fileURLToPath(new URL('./huge-page-keeper.js', import.meta.url));
const KEEPER_MS = 30_000;

type Keeper = ChildProcessByStdio<Writable, Readable, null>;

/** Huge pages that are ours until we give them back, or until we are no more. */
export class ReservedHugePages implements AsyncDisposable {
  readonly #keeper: Keeper | undefined;
  /** Pages added to the pool; 0 when enough were free. */
  readonly pages: number;

  private constructor(pages: number, keeperProcess?: Keeper) {
    this.pages = pages;
    this.#keeper = keeperProcess;
  }

  /**
   * Sees to it that so many are free.
   * @param onReserve told before the pool is changed
   * @throws UffdError ERR_OUT_OF_RANGE with the remedy when that cannot be done
   */
  static async reserve(needed: number, onReserve: (lacking: number) => void): Promise<ReservedHugePages> {
    const free = needed === 0 ? 0 : freeHugePages(HUGE_PAGE_BYTES);
    const lacking = needed - free;
    if (lacking <= 0) return new ReservedHugePages(0);
    const need = `${needed} free huge pages of 2 MiB are needed, there are ${free}`;
    if (process.getuid?.() !== 0) {
      throw new UffdError(
        'ERR_OUT_OF_RANGE',
        `${need}: run this as root, or as root raise vm.nr_hugepages by ${lacking}`,
      );
    }
    // Tried, it would take all memory that is left before it failed.
    const available = Math.floor(freemem() / HUGE_PAGE_BYTES);
    if (lacking > available) {
      throw new UffdError('ERR_OUT_OF_RANGE', `${need}, and memory for ${available} more: give a smaller --size`);
    }
    onReserve(lacking);
    // In a session of its own: what is sent to our process group does not reach it.
    const child = spawn(process.execPath, [keeper, String(lacking)], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.on('error', () => undefined);
    const reserved = new ReservedHugePages(lacking, child);
    const lines = createInterface({ input: child.stdout });
    const [got] = (await Promise.race([
      once(lines, 'line', { signal: AbortSignal.timeout(KEEPER_MS) }),
      once(child, 'exit').then(() => ['0 its keeper could not be started']),
    ])) as [string];
    const [, pages = '0', why = ''] = /^(\d+) ?(.*)/.exec(got) ?? [];
    if (Number(pages) === lacking) return reserved;
    await reserved[Symbol.asyncDispose]();
    throw new UffdError(
      'ERR_OUT_OF_RANGE',
      `${need}, and only ${pages} more could be had: ` +
        (why || 'free memory (echo 1 > /proc/sys/vm/compact_memory), or give a smaller --size'),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#keeper === undefined || this.#keeper.exitCode !== null) return;
    const gone = once(this.#keeper, 'exit', { signal: AbortSignal.timeout(KEEPER_MS) });
    this.#keeper.stdin.end();
    await gone;
  }
}
