// What a probe is: one question to the kernel, and what each answer means.
import type { Need } from './needs.js';
import type { Scene } from './scene.js';

/**
 * `yes`: it is so. `no`: this kernel has it not. `differs`: it answers, but not as Linux 7.3 does. `blocked`: not permitted
 * here; the blocker is named. `skipped`: not asked, for want of something harmless such as a free huge page.
 */
export type ProbeResult = 'yes' | 'no' | 'blocked' | 'differs' | 'skipped';

/** What was seen: errno names, bytes, flags, times. `seen` is the answer that the result rests on. */
export type Evidence = Readonly<{ seen: string } & Record<string, string | number | boolean>>;

/** One answer that kernels are known to give. */
export interface Outcome {
  readonly result: 'yes' | 'no' | 'differs';
  /** Which kernels give it, e.g. `6.7 and later`. */
  readonly kernels: string;
  /** What it means for whoever uses it. */
  readonly means?: string;
}

export interface Probe {
  /** Stable: `area.subject.detail`. */
  readonly id: string;
  /** What `yes` affirms. */
  readonly description: string;
  /** The Linux version that added it. */
  readonly since: string;
  readonly needs: readonly Need[];
  /** By what is seen. An answer that is not among them `differs`. */
  readonly outcomes: Readonly<Record<string, Outcome>>;
  /** Does the thing. What it takes from the scene is given back whatever happens. */
  readonly ask: (scene: Scene) => string | Evidence | Promise<string | Evidence>;
}

/** What stands in the way, in the words of `remedies`. */
export type BlockerName =
  | 'device node'
  | 'device mode'
  | 'device cgroup'
  | 'sysctl'
  | 'capability'
  | 'user namespace'
  | 'seccomp'
  | 'security module'
  | 'resource limit';

export interface Blocker {
  readonly blocker: BlockerName;
  readonly remedy: string;
}

/** Ends a probe that cannot ask its question here. */
export class NotAsked extends Error {
  readonly evidence: Evidence;
  readonly blocker: Blocker | undefined;

  private constructor(evidence: Evidence, why: string, blocker?: Blocker) {
    super(why);
    this.evidence = evidence;
    this.blocker = blocker;
  }

  static blocked(blocker: Blocker, evidence: Evidence): NotAsked {
    return new NotAsked(evidence, blocker.remedy, blocker);
  }

  static skipped(why: string): NotAsked {
    return new NotAsked({ seen: 'not asked' }, why);
  }
}

/** The question cannot even be put: this kernel has not what the probe needs first. */
export class NotThere extends Error {
  readonly evidence: Evidence;

  constructor(evidence: Evidence, why: string) {
    super(why);
    this.evidence = evidence;
  }
}

export interface Finding extends Partial<Blocker> {
  readonly result: ProbeResult;
  readonly evidence: Evidence;
  /** What the result means, where its name does not say it. */
  readonly meaning?: string;
}

/** The result that an answer is, by the outcomes of the probe. */
export function judge(probe: Pick<Probe, 'outcomes'>, answer: string | Evidence): Finding {
  const evidence = typeof answer === 'string' ? { seen: answer } : answer;
  const outcome = Object.hasOwn(probe.outcomes, evidence.seen) ? probe.outcomes[evidence.seen] : undefined;
  if (outcome === undefined) {
    return { result: 'differs', evidence, meaning: 'no kernel up to Linux 7.3 is known to answer so' };
  }
  return { result: outcome.result, evidence, ...(outcome.means !== undefined && { meaning: outcome.means }) };
}

/** Of what is there or is not. */
export function supported(since: string, means?: string, refusals: readonly string[] = ['EINVAL']): Probe['outcomes'] {
  const no: Outcome = { result: 'no', kernels: `before ${since}`, ...(means !== undefined && { means }) };
  return {
    ok: { result: 'yes', kernels: `${since} and later` },
    ...Object.fromEntries(refusals.map((errno) => [errno, no])),
  };
}

/** Of what every kernel since then answers the same way. */
export function always(seen: string, since: string): Probe['outcomes'] {
  return { [seen]: { result: 'yes', kernels: `${since} and later` } };
}
