// One probe asked, here and now.
import { needs } from './needs.js';
import { type Kernel, errnoOf } from './kernel.js';
import { type Finding, NotAsked, NotThere, type Probe, judge } from './probe.js';
import { Scene } from './scene.js';

/** Never throws: what cannot be asked is a finding too. `patience`: as of the scene. */
export async function ask(probe: Probe, kernel: Kernel, patience: number): Promise<Finding> {
  using scene = new Scene(kernel, patience);
  try {
    for (const need of probe.needs) needs[need].check(scene);
    return judge(probe, await probe.ask(scene));
  } catch (error) {
    return findingOf(error);
  }
}

function findingOf(error: unknown): Finding {
  if (error instanceof NotAsked) {
    const { evidence, blocker, message } = error;
    return blocker === undefined
      ? { result: 'skipped', evidence, meaning: message }
      : { result: 'blocked', evidence, ...blocker };
  }
  if (error instanceof NotThere) {
    return { result: 'no', evidence: error.evidence, meaning: `not in this kernel: ${error.message}` };
  }
  return resourceFinding(error);
}

const limits: Record<string, string> = {
  EMFILE: 'raise the limit of open files (ulimit -n)',
  ENFILE: 'raise the limit of open files of the system (fs.file-max)',
  EAGAIN: 'raise the limit of threads or of locked memory (ulimit -u, ulimit -l, the pids cgroup)',
  ENOMEM: 'give more memory (ulimit -v, the memory cgroup)',
};

/** An errno where the preparations of the probe should have worked. */
function resourceFinding(error: unknown): Finding {
  const message = error instanceof Error ? error.message : String(error);
  let seen = 'failed';
  try {
    seen = errnoOf(error);
  } catch {
    // No errno: the message has to do.
  }
  const evidence = { seen, error: message };
  const remedy = limits[seen];
  if (remedy !== undefined) return { result: 'blocked', evidence, blocker: 'resource limit', remedy };
  return { result: 'differs', evidence, meaning: 'the probe could not be prepared' };
}
