// Counts the conformance cases by memory kind and those of the kernel's own suites, and lists skipped tests by reason, at
// the end of a run, so that a kernel that lacks something is seen. UFFD_TEST_REQUIRE=all turns skips into a failure,
// UFFD_TEST_REQUIRE=name,name those of that name.

import { basename } from 'node:path';
import process from 'node:process';
import { kernelSuites } from '../test/conformance/kernel-cases.mjs';

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
    if (kinds.size > 0 && !config.testNamePattern) this.#reportKernelCases(modules);
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

  /** A case that no test has is a failure, once the file it should be in was run. */
  #reportKernelCases(modules) {
    const { logger } = this.#vitest;
    const states = statesByCase(modules);
    const files = new Set(modules.filter(conformance).map(({ moduleId }) => basename(moduleId, '.test.ts')));
    logger.log("Cases of the kernel's own suites:");
    for (const { suite, cases } of kernelSuites) {
      const counts = { passed: 0, failed: 0, skipped: 0, 'not run': 0 };
      for (const { name, on, file } of cases) {
        for (const kind of on) {
          const state = states.get(`${name} on ${kind}`);
          counts[state ?? 'not run']++;
          if (state !== undefined || !files.has(file)) continue;
          logger.error(`${suite}: no test of ${file}.test.ts is of ${name}${kind && ` on ${kind}`}`);
          process.exitCode = 1;
        }
      }
      const sum = Object.values(counts).reduce((one, other) => one + other);
      const told = Object.entries(counts).filter(([state, count]) => state !== 'not run' || count > 0);
      logger.log(`  ${suite}, ${sum} cases: ${told.map(([state, count]) => `${count} ${state}`).join(', ')}`);
    }
  }
}

const conformance = (module) => module.moduleId.includes('/test/conformance/');
const kindOf = (suite) => /^on '?([\w-]+)'?$/.exec(suite?.name)?.[1];

/** `name on memory` to failed, passed or skipped: the gravest of its tests, where one that passed outweighs a skip. */
function statesByCase(modules) {
  const gravity = ['skipped', 'passed', 'failed'];
  const states = new Map();
  const cases = kernelSuites.flatMap((one) => one.cases);
  for (const test of modules.filter(conformance).flatMap((module) => [...module.children.allTests()])) {
    const one = cases.find(({ name }) => test.name.startsWith(`${name}:`));
    if (one === undefined) continue;
    const key = `${one.name} on ${one.on[0] === '' ? '' : kindOf(test.parent)}`;
    const state = test.result().state;
    if (gravity.indexOf(state) > gravity.indexOf(states.get(key))) states.set(key, state);
  }
  return states;
}

/** The suites of test/conformance that are run once for each memory kind: `on anon`. */
function countByMemory(modules) {
  const kinds = new Map();
  for (const suite of modules.flatMap((module) => [...module.children.suites()])) {
    const kind = kindOf(suite);
    if (kind === undefined || !conformance(suite.module)) continue;
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
