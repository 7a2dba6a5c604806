// A cgroup with a limit of memory, of whichever version the machine has.
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where they are made, and the name of the file with the limit. */
export function memoryCgroups(): { folder: string; limit: string } | undefined {
  for (const [folder, limit] of [
    ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'],
    ['/sys/fs/cgroup', 'memory.max'],
  ] as const) {
    const probe = join(folder, `uffd-probe-${process.pid}`);
    try {
      mkdirSync(probe);
    } catch {
      continue;
    }
    const there = existsSync(join(probe, limit));
    rmdirSync(probe);
    if (there) return { folder, limit };
  }
  return undefined;
}

/** A program and its arguments, to be run in such a cgroup; removed when it is disposed of. */
export class MemoryCgroup implements Disposable {
  readonly #folder: string;

  constructor(limitBytes: number) {
    const { folder, limit } = memoryCgroups()!;
    this.#folder = join(folder, `uffd-test-${process.pid}`);
    mkdirSync(this.#folder);
    writeFileSync(join(this.#folder, limit), `${limitBytes}`);
  }

  /** For `run(...)`: a shell that goes into the cgroup and becomes the program. */
  command(program: string, args: readonly string[]): [string, string[]] {
    return ['sh', ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', this.#folder, program, ...args]];
  }

  [Symbol.dispose](): void {
    rmdirSync(this.#folder);
  }
}
