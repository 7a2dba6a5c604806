// The HTTP source inside a fetch worker.
import { Agent } from 'undici';
import { UffdError } from '../errors.js';
import type { PageSource } from '../server/page-source.js';
import { Extents } from './extents.js';
import { type HttpLimits, type PinnedObject, readRange } from './http-object.js';

export interface HttpSourceData {
  readonly object: PinnedObject;
  readonly limits: HttpLimits;
  readonly blockBytes: number;
  readonly extentBytes: number;
  readonly cacheBytes: number;
  readonly concurrency: number;
}

export function openSource(data: HttpSourceData): PageSource {
  return new HttpSource(data);
}

class HttpSource implements PageSource {
  readonly #agent: Agent;
  readonly #extents: Extents;
  /** Once the object has changed, nothing of what was read before is shown any more either. */
  #changed: UffdError | undefined;

  constructor({ object, limits, blockBytes, extentBytes, cacheBytes, concurrency }: HttpSourceData) {
    this.#agent = new Agent({ connections: concurrency, connect: { timeout: limits.timeoutMs } });
    this.#extents = new Extents({
      sizeBytes: object.sizeBytes,
      blockBytes,
      extentBytes,
      cacheBytes,
      concurrency,
      fetch: async (target, offset, arrived, signal) => {
        try {
          await readRange(object, { target, offset, arrived }, limits, this.#agent, signal);
        } catch (error) {
          if (error instanceof UffdError && error.code === 'ERR_SOURCE_CHANGED') this.#changed = error;
          throw error;
        }
      },
    });
  }

  async read(
    target: Uint8Array,
    targetOffset: number,
    length: number,
    offset: number,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#extents.read(target, targetOffset, length, offset, signal);
    if (this.#changed !== undefined) throw this.#changed;
  }

  close(): void {
    void this.#agent.destroy();
  }
}
