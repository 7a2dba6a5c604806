// What a run of the stress test found.

/** `anon`, `shmem` (a memfd mapped shared), `shmem-private` (mapped private), and the same two of huge pages. */
export const stressMemories = ['anon', 'shmem', 'shmem-private', 'hugetlb', 'hugetlb-private'] as const;
export type StressMemory = (typeof stressMemories)[number];

/** Answers that were EEXIST: `provoked` on purpose, `raced` because another handler was first. */
export interface AlreadyCounts {
  readonly provoked: number;
  readonly raced: number;
}

/** Bounces in all, and those with each of the properties that alternate. */
export interface BounceCounts {
  readonly all: number;
  readonly random: number;
  readonly racing: number;
  readonly polling: number;
  readonly blocking: number;
}

export interface StressReport {
  readonly schema: 1;
  readonly memory: StressMemory;
  readonly pages: number;
  readonly pageSize: number;
  /** Register modes: `wp` is left out where the kernel has none for this memory. */
  readonly modes: readonly string[];
  readonly threads: number;
  readonly handlers: number;
  readonly seconds: number;
  readonly bounces: BounceCounts;
  /** Pages verified and changed, and pages verified again after each bounce. */
  readonly changed: number;
  readonly verified: number;
  /** Faults by their reason, as the handlers read them. */
  readonly missing: number;
  readonly minor: number;
  readonly wp: number;
  readonly already: AlreadyCounts;
  readonly wrongPages: number;
  /** The first wrong page: what was expected and what was found. */
  readonly firstWrong?: string;
  /** Results that no answer should have had; of many the first few. */
  readonly unexpected: readonly string[];
  /** Why it ended before its time: no thread could go on. */
  readonly stalled?: string;
}

/** Whether everything was as it should be. */
export function passed(report: StressReport): boolean {
  return report.wrongPages === 0 && report.unexpected.length === 0 && report.stalled === undefined;
}
