// How much memory this process could still have: of the machine, and of the cgroups it is in.
import { readFileSync } from 'node:fs';

/** The memory controller of cgroups, by version: where it is mounted, and the names of its files. */
const versions = [
  {
    mine: /^0::(\/.*)$/m,
    mount: '/sys/fs/cgroup',
    limit: 'memory.max',
    current: 'memory.current',
    reclaimable: /^inactive_file (\d+)$/m,
  },
  {
    mine: /^\d+:memory:(\/.*)$/m,
    mount: '/sys/fs/cgroup/memory',
    limit: 'memory.limit_in_bytes',
    current: 'memory.usage_in_bytes',
    reclaimable: /^total_inactive_file (\d+)$/m,
  },
] as const;

/** Bytes, as the kernel estimates them (MemAvailable) and the limits of cgroups leave them. */
export function availableBytes(): number {
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  const mine = textOf('/proc/self/cgroup') ?? '';
  const left = versions.flatMap((version) =>
    withAncestors(version.mine.exec(mine)?.[1] ?? '/').map((path) => leftIn(version.mount + path, version)),
  );
  return Math.min(Number(kibibytes) * 1024, ...left);
}

/** Nothing, `/a`, `/a/b` of `/a/b`: in a container, what is mounted may be the limited cgroup itself. */
function withAncestors(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  return ['', ...names.map((_, i) => `/${names.slice(0, i + 1).join('/')}`)];
}

function leftIn(folder: string, { limit, current, reclaimable }: (typeof versions)[number]): number {
  const [most, used] = [limit, current].map((name) => Number(textOf(`${folder}/${name}`) ?? NaN));
  // No limit: `max`, or no such file.
  if (!Number.isFinite(most) || !Number.isFinite(used)) return Infinity;
  // Page cache that nobody has used lately makes way.
  const inactive = Number(reclaimable.exec(textOf(`${folder}/memory.stat`) ?? '')?.[1] ?? 0);
  return Math.max(0, most! - used! + inactive);
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
