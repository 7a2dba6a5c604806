// What the answers add up to, for the three things people want a userfaultfd for.
import type { ProbeReportEntry, Verdict } from './report.js';

interface Use {
  readonly use: Verdict['use'];
  readonly description: string;
  /** One of each group must be `yes`. */
  readonly rests: readonly (readonly string[])[];
}

const uses: readonly Use[] = [
  {
    use: 'user-faults',
    description: "serve faults of a process's own code",
    rests: [['uffd.dev', 'uffd.syscall.full', 'uffd.syscall.userModeOnly'], ['reg.anon.missing'], ['copy.basic']],
  },
  {
    use: 'kernel-faults',
    description: 'serve faults of kernel code: system calls, KVM guests on a memfd',
    rests: [
      ['uffd.dev', 'uffd.syscall.full'],
      ['kernelFault.message'],
      ['reg.shmem.missing'],
      ['reg.shmem.minor'],
      ['continue.ok'],
    ],
  },
  {
    use: 'guest-memfd-faults',
    description: 'serve faults of guest_memfd',
    rests: [['uffd.dev', 'uffd.syscall.full'], ['kvm.open'], ['reg.guestMemfd.missing', 'reg.guestMemfd.minor']],
  },
];

export function verdictsOf(entries: readonly ProbeReportEntry[]): Verdict[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  return uses.map(({ use, description, rests }) => {
    const missing = rests.flat().filter((id) => !byId.has(id));
    for (const group of rests) {
      const asked = group.flatMap((id) => byId.get(id) ?? []);
      const failed = asked.length === group.length && asked.every(({ result }) => result !== 'yes');
      if (failed) return { use, description, verdict: 'no', why: [...new Set(asked.map(reason))].join('; ') };
    }
    if (missing.length > 0) return { use, description, verdict: 'unknown', why: `not asked: ${missing.join(', ')}` };
    const held = rests.flat().filter((id) => byId.get(id)?.result === 'yes');
    return { use, description, verdict: 'yes', why: held.join(', ') };
  });
}

function reason({ id, evidence, remedy, blocker, meaning }: ProbeReportEntry): string {
  return remedy === undefined ? `${id}: ${meaning ?? evidence.seen}` : `${blocker ?? 'blocked'}: ${remedy}`;
}
