// Machines that lack something no kernel can make up for.
import { existsSync } from 'node:fs';
import type { TestContext } from 'vitest';

/** What is not of the kernel but of the machine it runs on: the probes about it, and what shows that it is there. */
const hardware = [
  { probes: /^(kvm|gmem)\.|\.(guestMemfd\.|gmem$)/, path: '/dev/kvm', lacking: 'kvm: no /dev/kvm' },
  {
    probes: /hugetlb(1g\.|\.1G$)/,
    path: '/sys/kernel/mm/hugepages/hugepages-1048576kB',
    lacking: 'hugetlb-1G: no huge pages of that size here',
  },
];

/** Skips the test of a probe that asks about something that is not here. */
export function skipWithoutHardware(id: string, context: Pick<TestContext, 'skip'>): void {
  for (const { probes, path, lacking } of hardware) if (probes.test(id) && !existsSync(path)) context.skip(lacking);
}
