// An object behind a URL, pinned by its ETag: ranges of it, tried again where that can help, and never of two versions.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Agent, request } from 'undici';
import { UffdError, messageOf } from '../errors.js';
import { displayUrl } from './url.js';

export interface HttpLimits {
  /** For the connection, the headers, and each pause in the body, in milliseconds. */
  readonly timeoutMs: number;
  /** Attempts of one range. */
  readonly attempts: number;
  /** Before the second attempt; twice as long before each further one. */
  readonly backoffMs: number;
}

export interface PinnedObject {
  readonly url: string;
  readonly etag: string;
  readonly sizeBytes: number;
}

const MAX_BACKOFF_MS = 2000;
/** What an attempt may take in all, however lively its connection is, in times of `timeoutMs`. */
const ATTEMPT_TIMEOUTS = 3;
/** Too busy, or not for long: worth another attempt. */
const isPassing = (status: number) => status >= 500 || [408, 425, 429].includes(status);

/** A failure that another attempt cannot mend. */
class Final extends Error {
  readonly error: UffdError;

  constructor(code: 'ERR_SOURCE_CHANGED' | 'ERR_SOURCE_INVALID', reason: string) {
    super(reason);
    this.error = new UffdError(code, reason);
  }
}

/**
 * Asks for the first byte: size and ETag of the object, and whether its server knows ranges.
 * @throws UffdError ERR_SOURCE_INVALID
 */
export async function pinObject(url: string, limits: HttpLimits, agent: Agent): Promise<PinnedObject> {
  return attempted(displayUrl(url), limits, async () => {
    const { status, headers, body } = await get(url, { range: 'bytes=0-0' }, limits, agent);
    await body.dump();
    if (isPassing(status)) throw new Error(`HTTP status ${status}`);
    if (status !== 206) throw invalid(status === 200 ? 'its server knows no ranges' : `HTTP status ${status}`);
    const sizeBytes = Number(/^bytes 0-0\/(\d+)$/.exec(headers['content-range'] ?? '')?.[1] ?? NaN);
    if (!Number.isSafeInteger(sizeBytes)) throw invalid('its server does not tell its size');
    const { etag } = headers;
    if (etag === undefined || !/^"[^"]*"$/.test(etag)) {
      throw invalid('its server gives no strong ETag: a change would go unnoticed');
    }
    const encoding = headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity') throw invalid(`its server compresses it (Content-Encoding ${encoding})`);
    return { url, etag, sizeBytes };
  });
}

/** Bytes that are wanted of an object: those at `offset`, as many as `target` has. */
export interface WantedRange {
  readonly target: Uint8Array;
  readonly offset: number;
  /** Told how many are there, as they come. */
  readonly arrived: (bytes: number) => void;
}

/**
 * Fills `target` with the bytes at `offset` of the object.
 * @throws UffdError ERR_SOURCE_CHANGED when it is not what it was, ERR_SOURCE_INVALID when it cannot be had
 */
export async function readRange(
  { url, etag, sizeBytes }: PinnedObject,
  { target, offset, arrived }: WantedRange,
  limits: HttpLimits,
  agent: Agent,
  signal?: AbortSignal,
): Promise<void> {
  const last = offset + target.length - 1;
  // Another attempt goes on where the one before it broke off: it is the same object, or none.
  let filled = 0;
  await attempted(displayUrl(url), limits, async () => {
    signal?.throwIfAborted();
    const range = `${offset + filled}-${last}`;
    const headersSent = { range: `bytes=${range}`, 'if-match': etag };
    const { status, headers, body } = await get(url, headersSent, limits, agent, signal);
    const problem = problemOf(status, headers, etag, `bytes ${range}/${sizeBytes}`);
    if (problem !== undefined) {
      await body.dump();
      throw problem;
    }
    // Only where the length was told first is a part of a body known to be the object's, and not a proxy's complaint.
    const told = Number(headers['content-length']) === target.length - filled;
    let end = filled;
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      if (end + chunk.length > target.length) throw new Error('more bytes than asked for');
      target.set(chunk, end);
      end += chunk.length;
      if (!told) continue;
      filled = end;
      arrived(filled);
    }
    if (end < target.length) throw new Error(`the body ended after ${end} of ${target.length} bytes`);
  });
}

function problemOf(status: number, headers: Headers, etag: string, range: string): Error | undefined {
  if (isPassing(status)) return new Error(`HTTP status ${status}`);
  const changed = (how: string) => new Final('ERR_SOURCE_CHANGED', `has changed since it was opened (${how})`);
  if (status === 404 || status === 410 || status === 412 || status === 416) return changed(`HTTP status ${status}`);
  if (status !== 206) return invalid(`HTTP status ${status}`);
  if (headers.etag !== etag) return changed(`ETag ${headers.etag ?? 'none'}, was ${etag}`);
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') return invalid(`it answered with Content-Encoding ${encoding}, asked for identity`);
  const told = headers['content-range'];
  if (told === range) return undefined;
  if (told !== undefined && told.split('/')[1] !== range.split('/')[1]) return changed(`${told}, asked for ${range}`);
  return new Error(`it answered with ${told ?? 'no range'}, asked for ${range}`);
}

interface Headers {
  readonly etag?: string;
  readonly 'content-encoding'?: string;
  readonly 'content-length'?: string;
  readonly 'content-range'?: string;
}

function invalid(reason: string): Final {
  return new Final('ERR_SOURCE_INVALID', `cannot be served: ${reason}`);
}

async function get(
  url: string,
  headers: Record<string, string>,
  { timeoutMs }: HttpLimits,
  dispatcher: Agent,
  signal?: AbortSignal,
) {
  const late = AbortSignal.timeout(timeoutMs * ATTEMPT_TIMEOUTS);
  const response = await request(url, {
    // What is counted in bytes of the object must not be compressed.
    headers: { ...headers, 'accept-encoding': 'identity' },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    dispatcher,
    signal: signal === undefined ? late : AbortSignal.any([signal, late]),
  });
  return { status: response.statusCode, headers: response.headers as Headers, body: response.body };
}

async function attempted<T>(name: string, { attempts, backoffMs }: HttpLimits, attempt: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (error) {
      if ((error as Error).name === 'AbortError') throw error;
      if (error instanceof Final) throw new UffdError(error.error.code, `${name} ${error.message}`);
      if (tried >= attempts) {
        const reason = `${name} cannot be read: ${messageOf(error)}, after ${attempts} attempts`;
        throw new UffdError('ERR_SOURCE_INVALID', reason, { cause: error });
      }
      // Spread out, so that many who failed together do not come back together.
      await sleep(Math.min(MAX_BACKOFF_MS, backoffMs * 2 ** (tried - 1)) * (0.5 + Math.random() / 2));
    }
  }
}
