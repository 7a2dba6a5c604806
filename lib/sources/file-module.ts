// The file source inside a worker: what is in the page cache at once, the rest when the disk has brought it.
import { KernelError, UffdError } from '../errors.js';
import type { NativeSourceFile } from '../native/contract.js';
import { native } from '../native/load.js';
import type { PageSource } from '../server/page-source.js';
import type { FileSourceData } from './file.js';

export function openSource(data: FileSourceData): PageSource {
  return new FileSource(data);
}

class FileSource implements PageSource {
  readonly #file: NativeSourceFile;
  readonly #inMemory: boolean;

  constructor(data: FileSourceData) {
    this.#file = new (native().SourceFile)(data.fd);
    if (this.#file.error() < 0) throw new KernelError(this.#file.error(), 'dup');
    this.#inMemory = data.inMemory;
    const [sizeBytes, , , , , mtimeNs] = this.#file.identity();
    if (sizeBytes !== data.sizeBytes || mtimeNs !== data.mtimeNs) {
      throw new UffdError('ERR_SOURCE_CHANGED', 'the file changed while the server was starting');
    }
  }

  readNow(target: Uint8Array, targetOffset: number, length: number, offset: number): boolean {
    // Short, or an errno: not all of it is in the page cache, the file system cannot tell, or the file is not what it
    // was. Whatever it is, `read` finds out.
    return this.#file.read(target, targetOffset, length, offset, !this.#inMemory) === length;
  }

  read(target: Uint8Array, targetOffset: number, length: number, offset: number): void {
    const read = this.#file.read(target, targetOffset, length, offset, false);
    if (read < 0) throw new KernelError(read, 'pread', `${length} bytes at ${offset} of the source`);
    if (read < length || !this.#file.unchanged()) {
      throw new UffdError('ERR_SOURCE_CHANGED', 'the source has changed since it was opened');
    }
  }

  unchanged(): boolean {
    return this.#file.unchanged();
  }

  close(): void {
    this.#file.close();
  }
}
