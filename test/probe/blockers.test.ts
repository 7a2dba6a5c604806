// What stands in the way, from what the routes say together: recorded evidence for hosts that no test can set up.
import { describe, expect, test } from 'vitest';
import { deviceBlocker, syscallBlocker } from '../../dist/probe/openings.js';
import type { Openings } from '../../dist/probe/openings.js';
import { areas } from '../../dist/probe/areas/areas.js';
import { requires } from '../support/requires.js';
import { askOf } from './support.js';

const root: Openings = {
  syscall: 'ok',
  userModeOnly: 'ok',
  device: 'ok',
  deviceRegistered: true,
  sysctl: '0',
  capPtrace: true,
  initialUserNamespace: true,
  seccompMode: 0,
};

const syscalls: [name: string, openings: Partial<Openings>, blocker: string | undefined, remedy: RegExp][] = [
  ['root', {}, undefined, /^$/],
  ['nobody', { syscall: 'EPERM', capPtrace: false }, 'sysctl', /vm\.unprivileged_userfaultfd=1.*CAP_SYS_PTRACE/],
  [
    'root of a user namespace',
    { syscall: 'EPERM', initialUserNamespace: false },
    'user namespace',
    /initial user namespace/,
  ],
  [
    'nobody of a user namespace',
    { syscall: 'EPERM', initialUserNamespace: false, capPtrace: false },
    'sysctl',
    /CAP_SYS_PTRACE/,
  ],
  [
    'a container with the default profile: EPERM for every userfaultfd(2)',
    { syscall: 'EPERM', userModeOnly: 'EPERM', seccompMode: 2, device: 'ENOENT' },
    'seccomp',
    /seccomp profile/,
  ],
  [
    'a profile that says ENOSYS, on a kernel that has the sysctl',
    { syscall: 'ENOSYS', userModeOnly: 'ENOSYS', seccompMode: 2 },
    'seccomp',
    /seccomp profile/,
  ],
  [
    'a filter that has nothing to do with it: what forbids is the sysctl',
    { syscall: 'EPERM', seccompMode: 2, capPtrace: false },
    'sysctl',
    /vm\.unprivileged_userfaultfd/,
  ],
  [
    'SELinux without a filter: even USER_MODE_ONLY is refused',
    { syscall: 'EPERM', userModeOnly: 'EPERM' },
    'security module',
    /policy/,
  ],
  [
    'a kernel without userfaultfd',
    { syscall: 'ENOSYS', userModeOnly: 'ENOSYS', device: 'ENOENT', deviceRegistered: false, sysctl: undefined },
    undefined,
    /^$/,
  ],
  ['Linux 5.10: EINVAL for USER_MODE_ONLY', { userModeOnly: 'EINVAL', sysctl: '1' }, undefined, /^$/],
];

describe('the system call', () => {
  test.each(syscalls)('%s', (_, openings, blocker, remedy) => {
    const found = syscallBlocker({ ...root, ...openings });
    expect(found?.blocker).toBe(blocker);
    expect(found?.remedy ?? '').toMatch(remedy);
  });
});

const devices: [name: string, openings: Partial<Openings>, blocker: string | undefined][] = [
  ['there', {}, undefined],
  ['no node in a container', { device: 'ENOENT' }, 'device node'],
  ['a kernel before 6.1', { device: 'ENOENT', deviceRegistered: false }, undefined],
  ['0600 of root', { device: 'EACCES' }, 'device mode'],
  ['the device cgroup', { device: 'EPERM' }, 'device cgroup'],
];

describe('the device', () => {
  test.each(devices)('%s', (_, openings, blocker) => {
    expect(deviceBlocker({ ...root, ...openings })?.blocker).toBe(blocker);
  });
});

describe('/dev/kvm', () => {
  const misc = (line: string) => ({ text: (path: string) => (path === '/proc/misc' ? line : undefined) });
  test.each([
    ['EACCES', -13, '232 kvm\n', 'blocked', 'device mode'],
    ['EPERM', -1, '232 kvm\n', 'blocked', 'device cgroup'],
    ['ENOENT, and the kernel has it', -2, '232 kvm\n', 'blocked', 'device node'],
    ['ENOENT, and the kernel has it not', -2, '', 'no', undefined],
  ])('%s', async (_, openat, line, result, blocker) => {
    const finding = await askOf('kvm.open', { systemCall: { openat }, ...misc(line) });
    expect([finding.result, finding.blocker]).toEqual([result, blocker]);
  });
});

describe('without /dev/kvm', () => {
  const ids = areas.flatMap(({ probes }) => probes.filter(({ needs }) => needs.includes('kvm')).map(({ id }) => id));
  const without = (misc: string) => ({
    systemCall: { openat: (_: unknown, path: unknown) => (String(path) === '/dev/kvm\0' ? -2 : undefined) },
    text: (path: string) => (path === '/proc/misc' ? misc : undefined),
  });
  test.for(ids)('%s', async (id, context) => {
    requires(context, 'uffd');
    expect(await askOf(id, without(''))).toMatchObject({ result: 'no' });
    expect(await askOf(id, without('232 kvm\n'))).toMatchObject({ result: 'blocked', blocker: 'device node' });
  });
});

test('EPERM of a call that everybody may make is the filter, and of others is not', async () => {
  const filtered = { text: (path: string) => (path === '/proc/self/status' ? 'Seccomp:\t2\n' : undefined) };
  const secret = await askOf('memfd.secret', { systemCall: { memfd_secret: -1 }, ...filtered });
  expect(secret).toMatchObject({ result: 'blocked', blocker: 'seccomp' });
  // Of the own process it works, so that a filter cannot be what forbids it for others.
  let calls = 0;
  const remoteOnly = { systemCall: { process_madvise: () => (calls++ < 5 ? -1 : 4096) }, ...filtered };
  expect(await askOf('process_madvise.remote', remoteOnly)).toMatchObject({ result: 'blocked', blocker: 'capability' });
});
