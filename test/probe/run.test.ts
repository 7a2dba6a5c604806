// The runner: whatever a probe does to its process, the run goes on; and nothing of it is left.
import { readFileSync, readdirSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { probe } from '../../dist/index.js';
import { areas } from '../../dist/probe/areas/areas.js';
import { Prober } from '../../dist/probe/prober.js';
import { verdictsOf } from '../../dist/probe/verdicts.js';
import type { ProbeReportEntry } from '../../dist/index.js';
import { runProgram } from '../support/child.js';
import { milliseconds, within } from '../support/deadline.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

const ids = areas.flatMap(({ probes }) => probes.map(({ id }) => id));

/** On a busy machine a process takes its time to start, and to end. */
const patiently = { timeout: milliseconds(10_000) };

/** Processes that probe, started by this one. */
function probers(): number[] {
  const children = readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').trim().split(' '),
  );
  return children.filter((pid) => pid !== '' && commandLine(pid).includes('prober-process')).map(Number);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

/** The addon is loaded by the first question. */
function isAsked(pid: number): boolean {
  return readFileSync(`/proc/${pid}/maps`, 'utf8').includes('uffd.node');
}

async function started(): Promise<Prober> {
  const prober = await Prober.start();
  onTestFinished(() => prober.end());
  return prober;
}

test('all of them, in order, within five seconds, and nothing is left', async () => {
  const before = openDescriptors();
  const pool = readFileSync('/proc/sys/vm/nr_hugepages', 'utf8');
  const report = await probe();
  expect(report.probes.map(({ id }) => id)).toEqual(ids);
  expect(report.milliseconds).toBeLessThan(milliseconds(5000));
  expect(probers()).toEqual([]);
  expect(openDescriptors()).toBe(before);
  expect(readFileSync('/proc/sys/vm/nr_hugepages', 'utf8')).toBe(pool);
});

test('ids are unique, and have the form of ids', () => {
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^[a-z]\w*(\.\w+)+$/i);
});

test('only: ids and globs, in the order of the list', async () => {
  const { probes } = await probe({ only: 'wp.*, uffd.api' });
  expect(probes.map(({ id }) => id)).toEqual(['uffd.api', ...ids.filter((id) => id.startsWith('wp.'))]);
});

test('only: what names no probe is an error', async () => {
  await expect(probe({ only: 'uffd.api,bogus.*' })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARGUMENT',
    message: expect.stringContaining('bogus.*') as string,
  });
});

test('signal: the run ends with its reason, and so does the process', async () => {
  const controller = new AbortController();
  const running = probe({ signal: controller.signal });
  await expect.poll(probers, patiently).toHaveLength(1);
  controller.abort(new Error('enough'));
  await expect(running).rejects.toThrow('enough');
  expect(probers()).toEqual([]);
  await expect(probe({ signal: controller.signal })).rejects.toThrow('enough');
});

test('a process that is killed in the middle: one probe says so, the others are asked', async () => {
  const running = probe();
  await expect.poll(() => probers().filter(isAsked), patiently).toHaveLength(1);
  for (const pid of probers()) process.kill(pid, 'SIGKILL');
  const { probes } = await within(running, 'the run', 15_000);
  expect(probes.map(({ id }) => id)).toEqual(ids);
  const killed = probes.filter(({ evidence }) => evidence.seen === 'killed');
  expect(killed).toHaveLength(1);
  expect(killed[0]).toMatchObject({ result: 'differs', evidence: { how: 'killed by SIGKILL' } });
});

test('a process that dies while it is asked is lost, with the signal', async () => {
  const prober = await started();
  process.kill(prober.pid!, 'SIGSTOP');
  const asked = prober.ask('sys.kernel', 3000);
  process.kill(prober.pid!, 'SIGKILL');
  expect(await asked).toEqual({ lost: 'exit', how: 'killed by SIGKILL' });
});

test('a process that has died before it is asked is lost too', async () => {
  const prober = await started();
  process.kill(prober.pid!, 'SIGKILL');
  await delay(50);
  expect(await prober.ask('sys.kernel', 3000)).toEqual({ lost: 'exit', how: 'killed by SIGKILL' });
});

test('a process that does not answer is lost at the deadline', async () => {
  const prober = await started();
  process.kill(prober.pid!, 'SIGSTOP');
  expect(await prober.ask('sys.kernel', 100)).toEqual({ lost: 'deadline' });
});

test('a process that is slow to start is given more time for its answers', async () => {
  const starting = Prober.start();
  await expect.poll(probers, patiently).toHaveLength(1);
  const [pid] = probers();
  process.kill(pid!, 'SIGSTOP');
  await delay(700);
  process.kill(pid!, 'SIGCONT');
  const prober = await starting;
  onTestFinished(() => prober.end());
  process.kill(pid!, 'SIGSTOP');
  const asked = performance.now();
  expect(await prober.ask('sys.kernel', 100)).toEqual({ lost: 'deadline' });
  expect(performance.now() - asked).toBeGreaterThan(300);
});

test('a process whose parent is gone ends', async () => {
  const prober = await started();
  const { pid } = prober;
  const code = `const { Prober } = await import(${JSON.stringify(new URL('../../dist/probe/prober.js', import.meta.url).href)});
    const prober = await Prober.start(); console.log(prober.pid); process.kill(process.pid, 'SIGKILL');`;
  const { stdout } = await runProgram(process.execPath, ['--input-type=module', '-e', code]);
  expect(Number(stdout)).toBeGreaterThan(0);
  await expect.poll(() => commandLine(stdout.trim()), patiently).toBe('');
  expect(commandLine(String(pid))).toContain('prober-process');
});

const entry = (id: string, result: ProbeReportEntry['result'], more: Partial<ProbeReportEntry> = {}) => ({
  id,
  result,
  area: '',
  description: '',
  since: '',
  milliseconds: 0,
  evidence: { seen: 'x' },
  ...more,
});

test('verdicts: no as soon as nothing of a group is yes, unknown while something was not asked', () => {
  const opened = [entry('uffd.dev', 'blocked', { blocker: 'device mode', remedy: 'open it' })];
  const [unknown] = verdictsOf(opened);
  expect(unknown).toMatchObject({ verdict: 'unknown', why: expect.stringContaining('copy.basic') as string });
  const [, kernel] = verdictsOf([...opened, entry('uffd.syscall.full', 'no')]);
  expect(kernel).toMatchObject({ verdict: 'no', why: 'device mode: open it; uffd.syscall.full: x' });
  const all = ['uffd.dev', 'reg.anon.missing', 'copy.basic'].map((id) => entry(id, 'yes'));
  const [user] = verdictsOf([...all, entry('uffd.syscall.full', 'no'), entry('uffd.syscall.userModeOnly', 'no')]);
  expect(user).toMatchObject({ use: 'user-faults', verdict: 'yes' });
});

test('verdicts rest on probes that exist', () => {
  for (const { why } of verdictsOf([])) {
    for (const id of why.replace('not asked: ', '').split(', ')) expect(ids).toContain(id);
  }
});

test('the prober of a test that needs one is asked about this kernel', async (context) => {
  requires(context, 'uffd');
  const prober = await started();
  expect(await prober.ask('uffd.apiTwice', 3000)).toMatchObject({ result: 'yes' });
});
