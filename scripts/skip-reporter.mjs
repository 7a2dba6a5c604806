// Counts the conformance cases by memory kind, and lists skipped tests by reason, at the end of a run, so that a kernel
// that lacks something is seen. UFFD_TEST_REQUIRE=all turns skips into a failure, UFFD_TEST_REQUIRE=name,name those of
// that name.

import process from 'node:process';

export default class SkipReporter {
  #vitest;

  onInit(vitest) {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules) {
    const { logger, config } = this.#vitest;
    const kinds = countByMemory(modules);
    if (kinds.size > 0) logger.log('Conformance cases, by memory kind:');
    for (const [kind, { passed, failed, skipped }] of kinds) {
      logger.log(`  ${kind}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
    }
    // `-t pattern` reports what it left out as skipped too, without a reason; nobody asked those anything.
    const reasons = countByReason(modules, config.testNamePattern ? undefined : 'no reason given');
    if (reasons.size === 0) return;
    logger.log('Skipped, by reason:');
    for (const [reason, count] of [...reasons].sort()) logger.log(`  ${count} x ${reason}`);
    const required = (process.env.UFFD_TEST_REQUIRE ?? '').split(',').filter((name) => name !== '');
    const isRequired = (reason) => required.some((name) => name === 'all' || reason.startsWith(`${name}:`));
    if (![...reasons.keys()].some(isRequired)) return;
    logger.error(`UFFD_TEST_REQUIRE=${required.join(',')}: a test skipped for that is a failed one`);
    process.exitCode = 1;
  }
}

/** The suites of test/conformance that are run once for each memory kind: `on anon`. */
function countByMemory(modules) {
  const kinds = new Map();
  for (const suite of modules.flatMap((module) => [...module.children.suites()])) {
    const kind = /^on '?([\w-]+)'?$/.exec(suite.name)?.[1];
    if (kind === undefined || !suite.module.moduleId.includes('/test/conformance/')) continue;
    const count = kinds.get(kind) ?? { passed: 0, failed: 0, skipped: 0 };
    for (const test of suite.children.allTests()) count[test.result().state]++;
    kinds.set(kind, count);
  }
  return kinds;
}

function countByReason(modules, otherwise) {
  const reasons = new Map();
  for (const test of modules.flatMap((module) => [...module.children.allTests('skipped')])) {
    const reason = test.result().note ?? otherwise;
    if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  return reasons;
}
