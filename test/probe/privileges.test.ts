// The same probes as somebody else: nobody, root of a user namespace, behind a seccomp filter. Each finishes, and names what
// really stands in the way.
import { chmodSync, chownSync, copyFileSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ProbeReport } from '../../dist/index.js';
import { mainScript, run, temporaryFolder } from '../e2e/support.js';
import { milliseconds } from '../support/deadline.js';
import { compiled } from '../support/programs.js';
import { requires } from '../support/requires.js';

const NOBODY = 65534;
const folder = temporaryFolder();
chmodSync(folder, 0o755);
const filter = join(folder, 'seccomp');

beforeAll(() => {
  // Where nobody may start it.
  copyFileSync(compiled(join(import.meta.dirname, 'seccomp.c')), filter);
});

async function reportOf(before: readonly string[], uid?: number): Promise<ProbeReport> {
  const [command, ...args] = [...before, process.execPath, mainScript, 'probe', '--json'];
  const { code, stdout, stderr } = await run(command, args, { ...(uid !== undefined && { uid }), timeoutMs: 15_000 });
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const report = JSON.parse(stdout) as ProbeReport;
  expect(report.milliseconds).toBeLessThan(milliseconds(5000));
  return report;
}

function found(report: ProbeReport, id: string) {
  const entry = report.probes.find((one) => one.id === id);
  return [entry?.result, entry?.blocker ?? entry?.evidence.seen];
}

const verdicts = (report: ProbeReport) => report.verdicts.map(({ use, verdict }) => [use, verdict]);

interface Case {
  readonly before: () => readonly string[];
  readonly uid?: number;
  readonly as: ProbeReport['as'];
  readonly answers: Record<string, readonly [string, string]>;
  readonly verdicts: readonly (readonly [string, string])[];
}

const cases: Record<string, Case> = {
  'as nobody': {
    before: () => [],
    uid: NOBODY,
    as: { uid: NOBODY, initialUserNamespace: true },
    answers: {
      'uffd.dev': ['blocked', 'device mode'],
      'uffd.syscall.full': ['blocked', 'sysctl'],
      'uffd.syscall.userModeOnly': ['yes', 'ok'],
      'cap.ptrace': ['no', 'not held'],
      'uffd.eventForkCap': ['blocked', 'capability'],
      'event.fork': ['blocked', 'capability'],
      'kernelFault.message': ['blocked', 'sysctl'],
      'userModeOnly.kernelAccess': ['yes', 'EFAULT, no message'],
      'copy.basic': ['yes', 'missing, done, read 99'],
      'pagemap.pfnVisible': ['no', 'hidden'],
      'process_madvise.remote': ['blocked', 'capability'],
    },
    verdicts: [
      ['user-faults', 'yes'],
      ['kernel-faults', 'no'],
      ['guest-memfd-faults', 'no'],
    ],
  },
  'root of a user namespace': {
    before: () => ['unshare', '-Ur'],
    as: { uid: 0, initialUserNamespace: false },
    answers: {
      'uffd.dev': ['yes', 'ok'],
      'uffd.syscall.full': ['blocked', 'user namespace'],
      'cap.ptrace': ['no', 'held in a user namespace'],
      'uffd.eventForkCap': ['blocked', 'capability'],
      'kernelFault.message': ['yes', 'missing, done, 8 bytes read'],
    },
    verdicts: [
      ['user-faults', 'yes'],
      ['kernel-faults', 'yes'],
      ['guest-memfd-faults', 'no'],
    ],
  },
  'nobody, root of a user namespace': {
    before: () => ['unshare', '-Ur'],
    uid: NOBODY,
    as: { uid: 0, initialUserNamespace: false },
    answers: {
      'uffd.dev': ['blocked', 'device mode'],
      'uffd.syscall.full': ['blocked', 'user namespace'],
      'uffd.syscall.userModeOnly': ['yes', 'ok'],
      'kernelFault.message': ['blocked', 'user namespace'],
    },
    verdicts: [
      ['user-faults', 'yes'],
      ['kernel-faults', 'no'],
      ['guest-memfd-faults', 'no'],
    ],
  },
  'nobody behind a filter': {
    before: () => [filter, '1'],
    uid: NOBODY,
    as: { uid: NOBODY, initialUserNamespace: true },
    answers: {
      'uffd.dev': ['blocked', 'device mode'],
      'uffd.syscall.full': ['blocked', 'seccomp'],
      'uffd.syscall.userModeOnly': ['blocked', 'seccomp'],
      'seccomp.mode': ['no', '2'],
      'copy.basic': ['blocked', 'seccomp'],
      'memfd.secret': ['yes', 'ok'],
      'process_madvise.remote': ['blocked', 'capability'],
    },
    verdicts: [
      ['user-faults', 'no'],
      ['kernel-faults', 'no'],
      ['guest-memfd-faults', 'no'],
    ],
  },
  'root behind a filter that says ENOSYS: the device passes it': {
    before: () => [filter, '38'],
    as: { uid: 0, initialUserNamespace: true },
    answers: {
      'uffd.dev': ['yes', 'ok'],
      'uffd.syscall.full': ['blocked', 'seccomp'],
      'uffd.syscall.userModeOnly': ['blocked', 'seccomp'],
      'uffd.badFlags': ['yes', 'EINVAL'],
      'userModeOnly.kernelAccess': ['yes', 'EFAULT, no message'],
    },
    verdicts: [
      ['user-faults', 'yes'],
      ['kernel-faults', 'yes'],
      ['guest-memfd-faults', 'no'],
    ],
  },
};

describe('other commands name the blocker, not the errno', () => {
  const refused = async (before: readonly string[], ...args: string[]) => {
    const [command, ...rest] = [...before, process.execPath, mainScript, ...args];
    const { code, stderr } = await run(command!, rest, { uid: NOBODY, timeoutMs: 15_000 });
    expect([code, stderr.trim().split('\n').length]).toEqual([1, 1]);
    return stderr;
  };
  const touch = ['touch', '--socket', join(folder, 'none.sock'), '--size', '4096'];

  test('a userfaultfd', async (context) => {
    requires(context, 'root', 'uffd', 'uffd-device');
    expect(await refused([], ...touch)).toMatch(/EPERM.*device mode: .*; sysctl: /);
    expect(await refused(['unshare', '-Ur'], ...touch)).toMatch(/EPERM.*; user namespace: /);
    expect(await refused([filter, '1'], ...touch)).toMatch(/EPERM.*; seccomp: /);
  });

  test('/dev/kvm', async (context) => {
    requires(context, 'root', 'kvm');
    const closed = (statSync('/dev/kvm').mode & 0o006) === 0;
    if (!closed) context.skip('/dev/kvm is open to everybody here');
    const theirs = join(folder, 'theirs');
    mkdirSync(theirs);
    chownSync(theirs, NOBODY, NOBODY);
    expect(await refused([], 'vmm', 'run', '--snapshot', join(theirs, 'guest'))).toMatch(/EACCES.*device mode: .*kvm/);
  });
});

describe('uffd probe', () => {
  test.for(Object.entries(cases))('%s', async ([, { before, uid, as, answers, verdicts: expected }], context) => {
    requires(context, 'root', 'uffd', 'uffd-device');
    const report = await reportOf(before(), uid);
    expect(report.as).toEqual(as);
    for (const [id, answer] of Object.entries(answers)) expect(found(report, id), id).toEqual(answer);
    expect(verdicts(report)).toEqual(expected);
    for (const { id, result, remedy, blocker } of report.probes) {
      expect([remedy !== undefined, blocker !== undefined], id).toEqual([result === 'blocked', result === 'blocked']);
      // A process that dies is no answer.
      expect(report.probes.find((one) => one.id === id)?.evidence.seen, id).not.toBe('killed');
    }
  });
});
