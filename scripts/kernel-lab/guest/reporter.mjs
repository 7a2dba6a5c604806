// What the lab wants to know of a run of the tests, as one JSON file (UFFD_LAB_REPORT).
import { writeFileSync } from 'node:fs';
import process from 'node:process';

/** What vitest says of a test that it has not run because of --bail. */
const ABORTED = 'The test run was aborted by the user.';

export default class LabReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const inState = (state) => tests.filter((test) => test.result().state === state);
    const skipped = {};
    for (const test of inState('skipped')) {
      const { note = 'no reason given' } = test.result();
      const reason = note === ABORTED ? 'not run: so many others had failed (--bail)' : note;
      skipped[reason] = (skipped[reason] ?? 0) + 1;
    }
    const broken = modules.flatMap((module) => {
      const suites = [module, ...module.children.allSuites()];
      const name = relativeName(module);
      return suites.flatMap((suite) => suite.errors().map(({ message }) => ({ name, message })));
    });
    const failed = inState('failed').map((test) => ({
      name: `${relativeName(test.module)} > ${test.fullName}`,
      message: test.result().errors?.[0]?.message ?? '',
    }));
    const unhandled = unhandledErrors.map(({ message }) => ({ name: 'outside of any test', message }));
    const report = { passed: inState('passed').length, failed: [...failed, ...broken, ...unhandled], skipped };
    writeFileSync(process.env.UFFD_LAB_REPORT, JSON.stringify(report));
  }
}

function relativeName(module) {
  return module.moduleId.replace(/^.*\/test\//, 'test/');
}
