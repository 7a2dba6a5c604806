// A snapshot as memory that many clients map: filled from its file once, then sealed for ever.
import { closeSync, fstatSync, openSync } from 'node:fs';
import { setImmediate as otherWork } from 'node:timers/promises';
import { UffdError } from '../errors.js';
import { availableBytes } from '../memory/available.js';
import { Memfd } from '../memory/memfd.js';
import { pageSize } from '../memory/page-size.js';
import { native } from '../native/load.js';
import { MAX_HOLES } from './holes.js';

/** What is not the snapshot's: the server itself, and room for what is going on meanwhile. */
const SPARE_BYTES = 64 * 2 ** 20;
const STEP_BYTES = 8 * 2 ** 20;

/** The memory of clones: `fillBacking`. Its disposal closes the descriptor; those who have mapped it keep it. */
export interface Backing extends Disposable {
  /** Open for reading only, and sealed: whoever gets it can change nothing. */
  readonly fd: number;
  /** Of the snapshot; the memory has whole pages. */
  readonly sizeBytes: number;
  /** Bytes that take memory: all but the holes of the file. */
  readonly filledBytes: number;
  /** Start and end of each hole: they read as zeroes, without a fault that anybody hears of. */
  readonly holes: Float64Array;
}

/**
 * Fills a memfd with the snapshot.
 * @param onProgress called with the bytes filled so far
 * @throws UffdError ERR_NO_MEMORY when it does not fit, ERR_SOURCE_CHANGED, ERR_SOURCE_INVALID; KernelError
 */
export async function fillBacking(
  path: string,
  onProgress: (filled: number, of: number) => void = () => undefined,
): Promise<Backing> {
  const fd = openSync(path, 'r');
  try {
    const before = fstatSync(fd, { bigint: true });
    const sizeBytes = Number(before.size);
    if (!before.isFile() || sizeBytes === 0) {
      throw new UffdError('ERR_SOURCE_INVALID', `${path} is no file with bytes: there is nothing to serve`);
    }
    const source = new (native().SourceFile)(`/proc/self/fd/${fd}`);
    const holes = Float64Array.from(source.holes(MAX_HOLES));
    source.close();
    const extents = between(holes, sizeBytes);
    const filledBytes = extents.reduce((sum, { start, end }) => sum + end - start, 0);
    const available = availableBytes() - SPARE_BYTES;
    if (filledBytes > available) {
      const reason = `${path} takes ${filledBytes} bytes of memory for its clones, ${Math.max(0, available)} are to be had`;
      throw new UffdError('ERR_NO_MEMORY', `${reason}: give it more, or serve it without sharing`);
    }
    using memfd = Memfd.create({ sizeBytes, name: 'uffd-backing' });
    let filled = 0;
    for (const { start, end } of extents) {
      for (let at = start; at < end; at += STEP_BYTES) {
        const length = Math.min(STEP_BYTES, end - at);
        filled += memfd.writeFromFile({ fd, offset: at }, length, at);
        onProgress(filled, filledBytes);
        await otherWork();
      }
    }
    if (filled !== filledBytes) throw new UffdError('ERR_NO_MEMORY', `${path}: only ${filled} bytes could be written`);
    const after = fstatSync(fd, { bigint: true });
    for (const mark of ['size', 'mtimeNs', 'ctimeNs'] as const) {
      if (after[mark] !== before[mark]) {
        throw new UffdError('ERR_SOURCE_CHANGED', `${path} changed while it was read`);
      }
    }
    memfd.addSeals('shrink', 'grow', 'write', 'seal');
    // Another opening: the one that may write goes no further than this.
    const shared = openSync(`/proc/self/fd/${memfd.fd}`, 'r');
    return {
      fd: shared,
      sizeBytes,
      filledBytes,
      holes,
      [Symbol.dispose]: () => {
        closeSync(shared);
      },
    };
  } finally {
    closeSync(fd);
  }
}

/** What lies between the holes, from whole page to whole page: a page with a part of a hole has bytes. */
function between(holes: Float64Array, sizeBytes: number): { start: number; end: number }[] {
  const extents: { start: number; end: number }[] = [];
  let start = 0;
  for (let i = 0; i < holes.length; i += 2) {
    if (holes[i]! > start) extents.push({ start, end: holes[i]! });
    start = Math.floor(holes[i + 1]! / pageSize()) * pageSize();
  }
  if (start < sizeBytes) extents.push({ start, end: sizeBytes });
  return extents;
}
