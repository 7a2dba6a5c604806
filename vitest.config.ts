import process from 'node:process';
import { defineConfig } from 'vitest/config';

// How much slower than usual this machine is: every deadline is so many times longer.
const slower = Number(process.env['UFFD_TEST_SLOWER'] ?? 1);

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: './test/support/ask-kernel.ts',
    // Processes, not threads: a crash in the addon must end one test file, not the run.
    pool: 'forks',
    maxWorkers: 2,
    execArgv: ['--expose-gc'],
    testTimeout: 30_000 * slower,
    hookTimeout: 30_000 * slower,
    expect: { poll: { timeout: 1000 * slower } },
    reporters: ['default', './scripts/skip-reporter.mjs'],
    // scripts/sanitize.mjs preloads a sanitizer into the processes that load the addon, and only there.
    env: JSON.parse(process.env['UFFD_TEST_WORKER_ENV'] ?? '{}') as Record<string, string>,
  },
});
