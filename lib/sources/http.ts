// An object behind an HTTP or HTTPS URL as the source of pages, read by range requests.
import { UffdError } from '../errors.js';
import type { SourceSpec } from '../server/page-source.js';
import type { HttpSourceData } from './http-module.js';
import { displayUrl } from './url.js';

/** What `httpSource` takes beside the URL. */
export interface HttpSourceOptions {
  /** What a fault waits for, a power of two; an aligned part of the object. Default 64 KiB. */
  readonly blockBytes?: number;
  /** What is read around it, a power of two and at least that much: the most that one request asks for. Default 512 KiB. */
  readonly extentBytes?: number;
  /** Bytes that are kept when they have been read. Default 64 MiB. */
  readonly cacheBytes?: number;
  /** Requests at once. Default 16. */
  readonly concurrency?: number;
  /** For the connection, the headers, and each pause in a body, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
  /** Attempts of one request: at what may pass (HTTP 5xx, 429, a broken connection). Default 5. */
  readonly attempts?: number;
  /** Before the second attempt, in milliseconds; twice as long before each further one. Default 100. */
  readonly backoffMs?: number;
}

/**
 * The object behind a URL. Its size and its strong ETag are pinned: when the object changes, absent pages fail; they are
 * never zeroes and never a mixture.
 * @throws UffdError ERR_SOURCE_INVALID: no ranges, no strong ETag, empty, cannot be reached
 */
export async function httpSource(url: string, options: HttpSourceOptions = {}): Promise<SourceSpec> {
  const { blockBytes = 64 * 1024, extentBytes = 512 * 1024 } = options;
  const { cacheBytes = 64 * 2 ** 20, concurrency = 16 } = options;
  const { timeoutMs = 5000, attempts = 5, backoffMs = 100 } = options;
  for (const [name, value] of Object.entries({ blockBytes, extentBytes, concurrency, timeoutMs, attempts })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new UffdError('ERR_OUT_OF_RANGE', `${name} must be a positive whole number, not ${value}`);
    }
  }
  for (const [name, value] of Object.entries({ blockBytes, extentBytes })) {
    if (!Number.isInteger(Math.log2(value))) {
      throw new UffdError('ERR_OUT_OF_RANGE', `${name} must be a power of two, not ${value}`);
    }
  }
  if (blockBytes > extentBytes) {
    throw new UffdError('ERR_OUT_OF_RANGE', `blockBytes ${blockBytes} is more than extentBytes ${extentBytes}`);
  }
  const limits = { timeoutMs, attempts, backoffMs };
  // Loaded by those who use it.
  const { Agent } = await import('undici');
  const { pinObject } = await import('./http-object.js');
  const agent = new Agent({ connect: { timeout: timeoutMs } });
  try {
    const object = await pinObject(url, limits, agent);
    if (object.sizeBytes === 0) {
      throw new UffdError('ERR_SOURCE_INVALID', `${displayUrl(url)} is empty: there is nothing to serve`);
    }
    const data: HttpSourceData = { object, limits, blockBytes, extentBytes, cacheBytes, concurrency };
    return {
      sizeBytes: object.sizeBytes,
      module: { module: new URL('./http-module.js', import.meta.url), data },
      runsIn: 'fetching',
      demandBytes: blockBytes,
    };
  } finally {
    await agent.close();
  }
}
