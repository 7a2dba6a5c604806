// Lists skipped tests by reason at the end of a run, so that a kernel that lacks something is seen and counted.
// UFFD_TEST_REQUIRE=all turns them into a failure.

import process from 'node:process';

export default class SkipReporter {
  #vitest;

  onInit(vitest) {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules) {
    const { logger, config } = this.#vitest;
    // `-t pattern` reports what it left out as skipped too, without a reason; nobody asked those anything.
    const reasons = countByReason(modules, config.testNamePattern ? undefined : 'no reason given');
    if (reasons.size === 0) return;
    logger.log('Skipped, by reason:');
    for (const [reason, count] of [...reasons].sort()) logger.log(`  ${count} x ${reason}`);
    if (process.env.UFFD_TEST_REQUIRE !== 'all') return;
    logger.error('UFFD_TEST_REQUIRE=all: a skipped test is a failed one');
    process.exitCode = 1;
  }
}

function countByReason(modules, otherwise) {
  const reasons = new Map();
  for (const test of modules.flatMap((module) => [...module.children.allTests('skipped')])) {
    const reason = test.result().note ?? otherwise;
    if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  return reasons;
}
