// What every row of `uffd bench serve` is given.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BenchContext } from '../bench-context.js';
import type { StartServe } from './tested-process.js';

export class ServeContext extends BenchContext {
  readonly startServe: StartServe;
  /** For sockets and records; removed with the context. */
  readonly folder = mkdtempSync(join(tmpdir(), 'uffd-bench-serve-'));

  constructor(options: { quick: boolean; signal: AbortSignal; startServe: StartServe }) {
    super({ ...options, faultAround: undefined });
    this.startServe = options.startServe;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
