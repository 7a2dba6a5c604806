import process from 'node:process';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Processes, not threads: a crash in the addon must end one test file, not the run.
    pool: 'forks',
    maxWorkers: 2,
    execArgv: ['--expose-gc'],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ['default', './scripts/skip-reporter.mjs'],
    // scripts/sanitize.mjs preloads a sanitizer into the processes that load the addon, and only there.
    env: JSON.parse(process.env['UFFD_TEST_WORKER_ENV'] ?? '{}') as Record<string, string>,
  },
});
