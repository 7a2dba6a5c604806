// A snapshot file as the source of pages.
import { KernelError, UffdError } from '../errors.js';
import { native } from '../native/load.js';
import type { SourceSpec } from '../server/page-source.js';
import { MAX_HOLES } from './holes.js';

const EAGAIN = -11;

/** What the workers are given: the descriptor this thread opened, and what the file was then. */
export interface FileSourceData {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly device: bigint;
  readonly inode: bigint;
  readonly inMemory: boolean;
  /** Start and end of each hole, one after the other. */
  readonly holes: Float64Array;
  /** Take a lease, where that is possible. */
  readonly hold: boolean;
}

/**
 * A file, read through the page cache by the serving workers and from the disk by fetch workers. Its device, inode,
 * size and modification time are pinned: when it changes under the server, absent pages fail; they are never zeroes
 * and never a mixture. Where it can (on ext4, XFS, btrfs, F2FS and tmpfs), each serving worker holds a read lease on
 * the file (fcntl(2), F_SETLEASE): whoever opens it for writing then waits up to a quarter of a second, and pages are
 * served without being copied twice. Holes of a sparse file are served as zeroes without being read.
 * @param options.lease `false` never takes a lease. Default true
 * @throws KernelError ENOENT, EACCES; UffdError ERR_SOURCE_INVALID (empty, not a regular file)
 */
export function fileSource(path: string, options: { lease?: boolean } = {}): SourceSpec {
  const file = new (native().SourceFile)(path);
  if (file.error() < 0) throw new KernelError(file.error(), 'open', path);
  const [sizeBytes, regular, inMemory, device, inode, mtimeNs, fd] = file.identity();
  const problem = regular ? (sizeBytes === 0 ? 'is empty' : undefined) : 'is not a regular file';
  if (problem !== undefined) {
    file.close();
    throw new UffdError('ERR_SOURCE_INVALID', `${path} ${problem}: there is nothing to serve`);
  }
  const held = file.hold();
  if (held > 0) file.letGo();
  const data: FileSourceData = {
    fd,
    sizeBytes,
    mtimeNs,
    device,
    inode,
    inMemory,
    holes: Float64Array.from(file.holes(MAX_HOLES)),
    hold: options.lease !== false,
  };
  return {
    sizeBytes,
    module: { module: new URL('./file-module.js', import.meta.url), data },
    runsIn: 'both',
    fetchWorkers: 3,
    ...(held === EAGAIN && { warning: `${path} is open for writing: a change through a mapping would go unnoticed` }),
    close: () => {
      file.close();
    },
  };
}
