// What is made of the files that a guest brings back.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { differences, recordedFor, recordedKernels } from '../../scripts/kernel-lab/recorded.js';
import { matrixIsCurrent } from '../../scripts/kernel-lab/matrix.js';
import { type ProbeReport, outcomeOf } from '../../scripts/kernel-lab/results.js';

const report = { schema: 1, kernel: { release: '9.9' }, probes: [] };
const good = {
  release: '9.9\n',
  'probe.json': JSON.stringify(report),
  'probe.status': '0\n',
  'tests.json': JSON.stringify({ passed: 3, failed: [], skipped: { 'kvm: none': 1 } }),
  'tests.status': '0\n',
};

function outcome(files: Partial<Record<keyof typeof good, string>>) {
  const results = mkdtempSync(join(tmpdir(), 'uffd-lab-'));
  onTestFinished(() => {
    rmSync(results, { recursive: true });
  });
  for (const [name, text] of Object.entries({ ...good, ...files })) writeFileSync(join(results, name), text);
  return outcomeOf('test', '9.9', { ending: 'done', results, serial: '', seconds: 1 }, true);
}

test('everything in order: passed, with what was skipped', () => {
  expect(outcome({})).toMatchObject({ status: 'passed', tests: { passed: 3, skipped: { 'kvm: none': 1 } } });
});

test.each([
  ['another kernel ran: 9.8', { release: '9.8' }],
  ['the probe did not end well', { 'probe.json': '{' }],
  ['the probe did not end well', { 'probe.status': '1' }],
  ['the tests did not come to their end', { 'tests.json': '' }],
  ['1 test failed', { 'tests.json': '{"passed":3,"failed":[{"name":"a","message":"b"}],"skipped":{}}' }],
  ['the tests ended with an error', { 'tests.status': '1' }],
  ['no test ran', { 'tests.json': '{"passed":0,"failed":[],"skipped":{"kvm: none":9}}' }],
])('failed: %s', (why, files) => {
  expect(outcome(files)).toMatchObject({ status: 'failed', why });
});

test('an answer of the probe that is not the recorded one is found', () => {
  const name = recordedKernels()[0]!;
  const recorded = recordedFor(name)!;
  const probes = Object.entries(recorded.answers).map(([id, answer]) => {
    const [result, seen] = answer.split(': ');
    return { id, area: 'answers', result: result!, ...(seen !== undefined && { evidence: { seen } }) };
  });
  const same: ProbeReport = { ...report, probes };
  expect(differences(name, same)).toEqual([]);
  const [first, ...rest] = probes;
  const other: ProbeReport = { ...report, probes: [{ ...first!, result: 'blocked' }, ...rest] };
  expect(differences(name, other)).toMatchObject([{ id: first!.id, recorded: recorded.answers[first!.id] }]);
});

test('docs/kernel-matrix.md is what was recorded', async () => {
  expect(await matrixIsCurrent(), 'npm run lab -- --record writes it').toBe(true);
});
