// Where the lab keeps what it has fetched and built, and how it talks while it works.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LabError, run, succeed } from './programs.js';
import type { ProgramOptions } from './programs.js';

/** The root of the checkout: this runs from build/kernel-lab/. */
export const projectRoot = join(import.meta.dirname, '../..');
/** What is not compiled: patches, configurations, scripts of the guest. */
export const assets = join(projectRoot, 'scripts/kernel-lab');

export class Workspace {
  readonly cache: string;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;

  constructor(options: { cache?: string; signal: AbortSignal; say: (text: string) => void }) {
    const base = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
    this.cache = options.cache ?? join(base, 'userfaultfd-kernel-lab');
    this.signal = options.signal;
    this.say = options.say;
  }

  /**
   * Keeps other labs out of this cache until this process ends, however it ends: the kernel forgets the name.
   * @throws LabError when there is another one
   */
  async lock(): Promise<void> {
    const name = createHash('sha256').update(this.cache).digest('hex').slice(0, 16);
    const server = createServer().unref();
    server.listen(`\0userfaultfd-kernel-lab-${name}`);
    try {
      await once(server, 'listening');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      throw new LabError(`another lab is at work in ${this.cache}: wait for it, or give this one another --cache`);
    }
  }

  /** A folder of the cache, made if it is not there. */
  folder(...names: string[]): string {
    const path = join(this.cache, ...names);
    mkdirSync(path, { recursive: true });
    return path;
  }

  run(program: string, args: readonly string[], options: Partial<ProgramOptions> = {}) {
    return run(program, args, { signal: this.signal, ...options });
  }

  succeed(program: string, args: readonly string[], options: Partial<ProgramOptions> = {}) {
    return succeed(program, args, { signal: this.signal, ...options });
  }
}
