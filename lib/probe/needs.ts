// What a probe needs before its question makes sense, each asked of the kernel.
import { freeHugePages } from '../memory/huge-pages.js';
import { errnoOf } from './kernel.js';
import { openAny, syscallBlocker, tryOpenings } from './openings.js';
import { NotAsked, NotThere } from './probe.js';
import { HUGE_2M, type Scene } from './scene.js';

interface NeedCheck {
  readonly description: string;
  /** @throws NotAsked, NotThere */
  readonly check: (scene: Scene) => void;
}

export const needs = {
  userfaultfd: {
    description: 'a userfaultfd, by any route',
    check: ({ kernel }) => {
      const { fd } = openAny(kernel);
      if (fd >= 0) kernel.systemCall('close', fd);
      else refuse(tryOpenings(kernel));
    },
  },
  kernelFaults: {
    description: 'a userfaultfd that reports faults of kernel code',
    check: ({ kernel }) => {
      const { fd, kernelFaults } = openAny(kernel);
      if (fd >= 0) kernel.systemCall('close', fd);
      if (fd < 0 || !kernelFaults) refuse(tryOpenings(kernel));
    },
  },
  freeHugePage: {
    description: 'a free huge page of 2 MiB',
    check: () => {
      if (freePages() < 1) throw NotAsked.skipped('no free huge pages');
    },
  },
} as const satisfies Record<string, NeedCheck>;
export type Need = keyof typeof needs;

function refuse(openings: ReturnType<typeof tryOpenings>): never {
  const evidence = { seen: openings.syscall, device: openings.device, userModeOnly: openings.userModeOnly };
  const blocker = syscallBlocker(openings);
  if (blocker !== undefined) throw NotAsked.blocked(blocker, evidence);
  throw new NotThere(evidence, 'the kernel has no userfaultfd (CONFIG_USERFAULTFD)');
}

function freePages(): number {
  try {
    return freeHugePages(HUGE_2M);
  } catch (error) {
    errnoOf(error);
    return 0;
  }
}
