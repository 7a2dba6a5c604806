// A file whose reads take their time: a file system of our own (FUSE), served by another process.
import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, openSync, closeSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UffdError } from '../../errors.js';
import { ended, messageOf } from './client.js';

export const SLOW_FILE_BYTES = 16 * 2 ** 20;

export class SlowFile implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder: string;

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
  }

  get path(): string {
    return join(this.#folder, 'snapshot');
  }

  /** @throws UffdError ERR_UNSUPPORTED_PLATFORM when it cannot be mounted */
  static async start(delayMs: number, signal: AbortSignal): Promise<SlowFile> {
    const folder = mkdtempSync(join(tmpdir(), 'uffd-bench-slow-'));
    const device = openSync('/dev/fuse', 'r+');
    const child = fork(new URL('./slow-file-child.js', import.meta.url), [`${delayMs}`], {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc', device],
    });
    const slow = new SlowFile(child, folder);
    try {
      await messageOf(child, signal);
      const options = `fd=3,rootmode=40000,user_id=0,group_id=0,default_permissions`;
      const { status, stderr } = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'uffd-bench', folder], {
        stdio: ['ignore', 'ignore', 'pipe', device],
      });
      if (status !== 0) throw new UffdError('ERR_UNSUPPORTED_PLATFORM', `mount: ${stderr.toString().trim()}`);
      child.send('mounted');
      return slow;
    } catch (error) {
      await slow[Symbol.asyncDispose]();
      throw error;
    } finally {
      closeSync(device);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    spawnSync('umount', ['-l', this.#folder], { stdio: 'ignore' });
    await ended(this.#child);
    rmdirSync(this.#folder);
  }
}

/** Why there cannot be such a file here. */
export function slowFileBlocker(): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting a slow file (FUSE) needs root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return 'a slow file needs /dev/fuse';
  }
}
