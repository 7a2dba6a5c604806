// Memory of this process in the care of a server in it: the smallest client.
import { type FaultServer, Mapping, Memfd, Userfaultfd } from 'userfaultfd';

export const PAGE = 4096;

export class Client implements Disposable {
  readonly memfd: Memfd | undefined;
  readonly mapping: Mapping;
  readonly userfaultfd: Userfaultfd;
  session = 0;

  constructor(pages: number, kind: 'shmem' | 'anonymous' = 'shmem', features: ('eventRemove' | 'eventUnmap')[] = []) {
    const sizeBytes = pages * PAGE;
    this.memfd = kind === 'shmem' ? Memfd.create({ sizeBytes }) : undefined;
    this.memfd?.addSeals('shrink');
    this.mapping = this.memfd === undefined ? Mapping.anonymous(sizeBytes) : Mapping.map(this.memfd);
    this.userfaultfd = Userfaultfd.open({ features });
    this.userfaultfd.register(this.mapping, kind === 'shmem' ? ['missing', 'minor'] : ['missing']);
  }

  async attach(server: FaultServer, resident = false): Promise<this> {
    const { userfaultfd, memfd, mapping } = this;
    this.session = await server.attach({
      userfaultfd,
      ...(memfd !== undefined && { memory: memfd }),
      kind: memfd === undefined ? 'anonymous' : 'shmem',
      pageSize: PAGE,
      regions: [{ start: mapping.address, size: mapping.lengthBytes, offset: 0 }],
      resident,
    });
    return this;
  }

  /** First byte of each of the pages, read through the faulting mapping. */
  async read(first: number, pages = 1, timeoutMs = 5000): Promise<number[]> {
    const bytes = await this.mapping.read(first * PAGE, pages * PAGE, { signal: AbortSignal.timeout(timeoutMs) });
    return Array.from({ length: pages }, (_, page) => {
      const [value = -1, ...rest] = new Set(bytes.subarray(page * PAGE, (page + 1) * PAGE));
      if (rest.length > 0) throw new Error(`page ${first + page} is a mixture`);
      return value;
    });
  }

  [Symbol.dispose](): void {
    this.userfaultfd.close();
    this.mapping.unmap();
    this.memfd?.close();
  }
}

export const patternOf = (page: number) => (page % 250) + 1;
export const patterns = (first: number, pages: number) => Array.from({ length: pages }, (_, i) => patternOf(first + i));
