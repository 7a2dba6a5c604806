// A snapshot file as the source of pages.
import { KernelError, UffdError } from '../errors.js';
import { native } from '../native/load.js';
import type { SourceSpec } from '../server/page-source.js';

/** What the workers are given: the descriptor this thread opened, and what the file was then. */
export interface FileSourceData {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly inMemory: boolean;
}

/**
 * A file, read through the page cache by the serving workers and from the disk by fetch workers. Its device, inode,
 * size and modification time are pinned: when it changes under the server, absent pages fail; they are never zeroes
 * and never a mixture.
 * @throws KernelError ENOENT, EACCES; UffdError ERR_SOURCE_INVALID (empty, not a regular file)
 */
export function fileSource(path: string): SourceSpec {
  const file = new (native().SourceFile)(path);
  if (file.error() < 0) throw new KernelError(file.error(), 'open', path);
  const [sizeBytes, regular, inMemory, , , mtimeNs, fd] = file.identity();
  const problem = regular ? (sizeBytes === 0 ? 'is empty' : undefined) : 'is not a regular file';
  if (problem !== undefined) {
    file.close();
    throw new UffdError('ERR_SOURCE_INVALID', `${path} ${problem}: there is nothing to serve`);
  }
  const data: FileSourceData = { fd, sizeBytes, mtimeNs, inMemory };
  return {
    sizeBytes,
    module: { module: new URL('./file-module.js', import.meta.url), data },
    runsIn: 'both',
    fetchWorkers: 3,
    close: () => {
      file.close();
    },
  };
}
