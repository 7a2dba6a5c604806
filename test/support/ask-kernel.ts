// Before the first test: `uffd probe`, once for the whole run. What tests require of the kernel is what it found.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import type { TestProject } from 'vitest/node';
import type { ProbeReport, ProbeReportEntry } from '../../dist/index.js';
import { milliseconds } from './deadline.js';
import { required } from './required-probes.js';

declare module 'vitest' {
  interface ProvidedContext {
    probes: ProbeReportEntry[];
  }
}

const command = join(import.meta.dirname, '../../dist/cli/main.js');

export default function askKernel(project: TestProject): void {
  // The environment of what loads the addon: see vitest.config.ts.
  const env = {
    ...process.env,
    ...(JSON.parse(process.env['UFFD_TEST_WORKER_ENV'] ?? '{}') as Record<string, string>),
  };
  const only = [...new Set(Object.values(required))].join(',');
  const timeout = milliseconds(60_000);
  const output = execFileSync(process.execPath, [command, 'probe', '--json', '--only', only], { env, timeout });
  const { probes } = JSON.parse(output.toString()) as ProbeReport;
  project.provide('probes', [...probes]);
}
