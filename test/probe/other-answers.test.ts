// A probe that cannot say anything else is a defect: each of them here gives another answer than on Linux 6.18, because the
// one call it rests on does.
import { readFileSync, readdirSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { KernelError, Mapping, Memfd, pageSize } from '../../dist/index.js';
import type { ProbeResult } from '../../dist/index.js';
import { areas } from '../../dist/probe/areas/areas.js';
import { Scene } from '../../dist/probe/scene.js';
import { needs } from '../../dist/probe/needs.js';
import { Answer, EventKind } from '../../dist/native/contract.js';
import { native } from '../../dist/native/load.js';
import { RegisterMode } from '../../dist/userfaultfd/features.js';
import { requires } from '../support/requires.js';
import { mappingsOf, openDescriptors } from '../support/resources.js';
import { expected } from './expected-6.18.js';
import { skipWithoutHardware } from './hardware.js';
import { type Injection, anyDescriptor, askOf, message, portExit } from './support.js';

const ids = areas.flatMap(({ probes }) => probes.map(({ id }) => id));
const [EPERM, ENOENT, ESRCH, EINTR, EBADF, EACCES, EFAULT, EBUSY, EEXIST, ENODEV, EINVAL, ENOTTY, ENOSYS, EHWPOISON] = [
  -1, -2, -3, -4, -9, -13, -14, -16, -17, -19, -22, -25, -38, -133,
];

interface Other {
  /** What the calls say. */
  readonly injection?: Injection;
  /** Of objects that probes use as they are. */
  readonly mock?: () => void;
  readonly result: ProbeResult;
  readonly seen?: string;
  readonly blocker?: string;
}

type Methods = Record<string, () => unknown>;
const fails = (prototype: object, method: string, errno: number) => () => {
  vi.spyOn(prototype as Methods, method).mockImplementation(() => {
    throw new KernelError(errno, method);
  });
};
const says = (prototype: object, method: string, value: unknown) => () => {
  vi.spyOn(prototype as Methods, method).mockReturnValue(value);
};
const refused = (register: number): Injection => ({ register: () => register });
const text = (path: string, content: string | null): Injection => ({
  text: (asked) => (asked === path ? content : undefined),
});
const status = (line: string): Injection => text('/proc/self/status', `${line}\n`);
const answers = (operation: string, result: number): Injection => ({
  answer: (name) => (name === operation ? result : undefined),
});
const systemCall = (name: string, returned: number | (() => number)): Injection => ({
  systemCall: { [name]: returned },
});
/** The handshake of a kernel without the features that are asked for. */
const noFeatures: Injection = { handshake: (features) => (features === 0n ? undefined : EINVAL) };
/** One that takes them, and does nothing about them. */
const idleFeatures: Injection = { handshake: (_, real) => real.handshake(0n) };
const noneInMisc = (path: string) => (path === '/proc/misc' ? '' : undefined);
const PAGE = pageSize();

/** A kernel with read and write protection, as far as one thread can tell. */
const withRwp: Injection = {
  handshake: (_, real) => real.handshake(0n),
  register: () => 0n,
  answer: (name, row) => (name === 'rwProtect' ? row[Answer.length] : undefined),
  read: (_, buffer) => message(buffer, EventKind.pagefault, [8n, 0n, 0n]),
  setMode: 0,
};

const others: Record<string, Other> = {
  'uffd.dev': { injection: { systemCall: { openat: ENOENT }, text: noneInMisc }, result: 'no', seen: 'ENOENT' },
  'uffd.syscall.full': {
    injection: {
      systemCall: { userfaultfd: ENOSYS },
      text: (path) => (path.includes('unprivileged') ? null : noneInMisc(path)),
    },
    result: 'no',
    seen: 'ENOSYS',
  },
  'uffd.syscall.userModeOnly': { injection: systemCall('userfaultfd', EINVAL), result: 'no', seen: 'EINVAL' },
  'uffd.sysctl': { injection: text('/proc/sys/vm/unprivileged_userfaultfd', '1\n'), result: 'yes' },
  'cap.ptrace': { injection: status('CapEff:\t0000000000000000'), result: 'no' },
  'cap.admin': { injection: text('/proc/self/uid_map', '0 1000 1\n'), result: 'no', seen: 'held in a user namespace' },
  'cap.ipcLock': { injection: status('CapEff:\t0000000000000000'), result: 'no' },
  'seccomp.mode': { injection: status('Seccomp:\t2'), result: 'no' },
  'uffd.badFlags': { injection: systemCall('userfaultfd', anyDescriptor), result: 'differs', seen: 'ok' },
  'uffd.fdinfo': {
    injection: { text: (path) => (path.includes('fdinfo') ? 'pos: 0\n' : undefined) },
    result: 'differs',
  },
  'uffd.api': { injection: { handshake: () => [1n << 40n, 3n] }, result: 'differs', seen: 'unknown features' },
  'uffd.apiTwice': { injection: { handshake: () => [0n, 3n] }, result: 'differs', seen: 'ok' },
  'uffd.apiRetryAfterError': {
    injection: { handshake: (features) => (features === 0n ? EINVAL : undefined) },
    result: 'no',
  },
  'uffd.eventForkCap': {
    injection: { handshake: (features) => (features === 0n ? undefined : EPERM) },
    result: 'blocked',
    blocker: 'capability',
  },
  'reg.sealWrite': { injection: { register: () => 0n }, result: 'differs' },
  'reg.roFd': { injection: { register: () => 0n }, result: 'differs' },
  'reg.secondUffd': { injection: { register: () => 0n }, result: 'differs' },
  'reg.dropWp': {
    injection: { register: (mode) => (mode === RegisterMode.missing ? EBUSY : undefined) },
    result: 'yes',
  },
  'unreg.foreign': { injection: { unregister: () => 0 }, result: 'differs', seen: 'ok' },
  'copy.basic': { injection: answers('copy', EFAULT), result: 'differs', seen: 'missing, EFAULT, asleep' },
  'copy.eexist': { injection: answers('copy', PAGE), result: 'differs', seen: 'done' },
  'copy.partial': {
    injection: { answer: (_, row) => (row[Answer.length]! > PAGE ? EEXIST : undefined) },
    result: 'differs',
    seen: 'EEXIST',
  },
  'copy.unalignedSrc': { injection: answers('copy', EINVAL), result: 'differs', seen: 'EINVAL' },
  'copy.cachedPage': { injection: answers('copy', PAGE), result: 'differs', seen: 'done' },
  'copy.overPoison': { injection: answers('poison', EINVAL), result: 'no', seen: 'EINVAL' },
  'copy.overGuard': { injection: answers('copy', EEXIST), result: 'yes' },
  'zeropage.anon': { injection: answers('zeropage', EINVAL), result: 'differs' },
  'zeropage.shmem': { injection: answers('zeropage', EINVAL), result: 'no' },
  'zeropage.hugetlb': { injection: answers('zeropage', 2 ** 21), result: 'yes' },
  'poison.anon': { injection: answers('poison', EINVAL), result: 'no' },
  'poison.shmem': { injection: answers('poison', EINVAL), result: 'no' },
  'poison.hugetlb': { injection: answers('poison', EINVAL), result: 'no' },
  'move.anon': { injection: answers('move', EINVAL), result: 'no' },
  'move.holes': { injection: answers('move', EINVAL), result: 'no' },
  'move.shmem': { injection: answers('move', PAGE), result: 'yes' },
  'continue.ok': { injection: refused(EINVAL), result: 'no' },
  'continue.noPage': { injection: answers('continue', PAGE), result: 'differs', seen: 'done' },
  'continue.eexist': { injection: answers('continue', PAGE), result: 'differs', seen: 'done' },
  'continue.pastEof': { injection: answers('continue', EFAULT), result: 'yes' },
  'continue.missingOnly': { injection: answers('continue', EINVAL), result: 'differs' },
  'continue.private': { injection: refused(EINVAL), result: 'no' },
  'continue.wpMode': { injection: answers('continue', EINVAL), result: 'no' },
  'continue.anon': { injection: answers('continue', PAGE), result: 'yes' },
  'continue.thp': { injection: answers('continue', EINVAL), result: 'differs', seen: 'EINVAL, by pages' },
  'minor.hole': { injection: refused(EINVAL), result: 'no' },
  'minor.fallocated': {
    injection: { read: (_, buffer) => message(buffer, EventKind.pagefault, [0n, 0n, 0n]) },
    result: 'differs',
    seen: 'missing',
  },
  'minor.punchWhilePending': { injection: answers('continue', PAGE), result: 'differs', seen: 'minor, done, missing' },
  'minor.faultAround': { injection: refused(EINVAL), result: 'no' },
  'wp.anon': { injection: refused(EINVAL), result: 'no' },
  'wp.shmemHole': { injection: refused(EINVAL), result: 'no' },
  'wp.unpopulated': { injection: noFeatures, result: 'no' },
  'wp.async': { injection: noFeatures, result: 'no' },
  'rwp.sync': { injection: withRwp, result: 'yes' },
  'rwp.async': { injection: { ...withRwp, read: () => 0 }, result: 'yes' },
  'rwp.setMode': { injection: withRwp, result: 'yes' },
  'rwp.wpExclusive': { injection: { ...withRwp, register: () => EINVAL }, result: 'yes' },
  'wake.unregisterMinor': {
    injection: {
      unregister: (real, start, length) => {
        const row = new Float64Array(Answer.fields);
        row.set([0, 4, 0, start, length]);
        const unregistered = real.unregister(start, length);
        real.answer(row);
        return unregistered;
      },
    },
    result: 'yes',
  },
  'wake.dontwakeBatch': {
    injection: {
      answer: (_, row) => {
        row[Answer.mode] = 0;
        return undefined;
      },
    },
    result: 'differs',
    seen: 'read 99, read 99',
  },
  'wake.spurious': { injection: answers('wake', 0), result: 'differs', seen: 'missing, no message' },
  'poll.blockingFd': { injection: systemCall('ppoll', 0), result: 'differs' },
  'read.short': { injection: systemCall('read', 0), result: 'differs' },
  'read.batch': {
    injection: { read: (real, buffer) => real.read(buffer.subarray(0, 32)) },
    result: 'differs',
    seen: '1 messages',
  },
  'msg.threadId': { injection: idleFeatures, result: 'differs', seen: 'thread 0' },
  'msg.exactAddress': { injection: idleFeatures, result: 'differs', seen: 'byte 0' },
  'sigbus.feature': { injection: idleFeatures, result: 'differs', seen: 'asleep, missing' },
  'kernelFault.message': {
    injection: { systemCall: { openat: EACCES, userfaultfd: (flags) => ((flags as number) & 1 ? undefined : EPERM) } },
    result: 'blocked',
    blocker: 'sysctl',
  },
  'userModeOnly.kernelAccess': {
    injection: {
      systemCall: {
        userfaultfd: (flags) => native().systemCall('userfaultfd', (flags as number) & ~1),
        ioctl: EINVAL,
      },
    },
    result: 'differs',
    seen: 'asleep, missing',
  },
  'signal.kernelFaultStorm': { injection: systemCall('tgkill', 0), result: 'yes' },
  'event.remove': { injection: noFeatures, result: 'no' },
  'event.remap': { injection: noFeatures, result: 'no' },
  'event.unmap': { injection: idleFeatures, result: 'differs', seen: 'ENOENT, no message, ok' },
  'event.fork': { injection: noFeatures, result: 'no' },
  'event.punchSilent': {
    injection: { read: (_, buffer) => message(buffer, EventKind.remove, [0n, 0n]) },
    result: 'differs',
    seen: 'remove',
  },
  'event.order': { injection: noFeatures, result: 'no' },
  'mm.dead': { injection: answers('copy', PAGE), result: 'differs', seen: `${PAGE} bytes` },
  'move.crossMm': { injection: answers('move', PAGE), result: 'differs', seen: `${PAGE} bytes` },
  'memfd.create': { injection: systemCall('memfd_create', ENOSYS), result: 'no' },
  'memfd.nameLimit': { injection: systemCall('memfd_create', anyDescriptor), result: 'differs', seen: 'ok, ok' },
  'memfd.noexecSeal': { injection: systemCall('memfd_create', EINVAL), result: 'no' },
  'memfd.exec': { injection: systemCall('memfd_create', EACCES), result: 'no' },
  'memfd.execAndNoexec': { injection: systemCall('memfd_create', anyDescriptor), result: 'differs' },
  'sysctl.memfd_noexec': { injection: text('/proc/sys/vm/memfd_noexec', '2\n'), result: 'no' },
  'memfd.secret': { injection: systemCall('memfd_secret', ENOSYS), result: 'no' },
  'memfd.punch': { mock: says(Memfd.prototype, 'punchHole', undefined), result: 'differs' },
  'memfd.seekHoleData': { mock: says(Memfd.prototype, 'extents', []), result: 'differs', seen: 'no data' },
  'memfd.thp': { injection: systemCall('madvise', EINVAL), result: 'no' },
  'memfd.hugetlb.fault': {
    mock: () => {
      says(needs.freeHugePage, 'check', undefined)();
      says(Scene.prototype, 'access', Promise.resolve('SIGBUS, si_code 2'))();
    },
    result: 'differs',
  },
  'memfd.hugetlb.noPage': {
    mock: () => {
      says(needs.noFreeHugePage, 'check', undefined)();
      says(Scene.prototype, 'access', Promise.resolve('written'))();
    },
    result: 'differs',
  },
  ...kvmOthers(),
  'kvm.open': { injection: { systemCall: { openat: ENOENT }, text: noneInMisc }, result: 'no' },
  'numa.nodes': { injection: text('/sys/devices/system/node/online', '0-1\n'), result: 'yes' },
  'mbind.memfd': { mock: fails(Mapping.prototype, 'setPolicy', ENOSYS), result: 'no' },
  'mbind.sharedAcrossMappings.memfd': {
    mock: says(Mapping.prototype, 'policyAt', { mode: 'default', nodes: [] }),
    result: 'no',
  },
  'mbind.weightedInterleave': { mock: fails(Mapping.prototype, 'setPolicy', EINVAL), result: 'no' },
  'mbind.badNode': { mock: says(Mapping.prototype, 'setPolicy', undefined), result: 'differs', seen: 'ok' },
  'pagemap.scan': { mock: says(native(), 'scanPages', ENOTTY), result: 'no' },
  'pagemap.wpMatching': { mock: says(native(), 'scanPages', ENOTTY), result: 'no' },
  'pagemap.guardCategory': { mock: says(native(), 'scanPages', EINVAL), result: 'no' },
  'pagemap.accessedCategory': {
    injection: withRwp,
    mock: () => {
      vi.spyOn(native(), 'scanPages').mockImplementation((_, request, regions) => {
        const [start, end] = request.subarray(2, 4);
        request[4] = end!;
        regions.set([start!, start! + BigInt(PAGE), 512n]);
        return 1;
      });
    },
    result: 'yes',
  },
  'pagemap.pfnVisible': { injection: systemCall('read', 8), result: 'no' },
  'pagemap.softDirty': { injection: { systemCall: { read: softDirtyOnce() } }, result: 'yes' },
  'guard.anon': { mock: fails(Mapping.prototype, 'advise', EINVAL), result: 'no' },
  'guard.shmem': { mock: fails(Mapping.prototype, 'advise', EINVAL), result: 'no' },
  'guard.mlocked': { mock: says(Mapping.prototype, 'advise', undefined), result: 'differs', seen: 'ok' },
  'process_madvise.self': { injection: systemCall('process_madvise', EINVAL), result: 'no' },
  'process_madvise.pidfdSelf': {
    injection: { systemCall: { process_madvise: (pidfd) => (pidfd === -10_000 ? EBADF : undefined) } },
    result: 'no',
  },
  'process_madvise.remote': { injection: systemCall('process_madvise', ENOSYS), result: 'no' },
  'process_madvise.zeroLenBadAdvice': { injection: systemCall('process_madvise', EINVAL), result: 'yes' },
  'madv.populate': { mock: fails(Mapping.prototype, 'advise', EINVAL), result: 'no' },
  'smaps.vmflags': { injection: text('/proc/self/smaps', ''), result: 'differs', seen: 'no um, no uw, no ui' },
  'sys.kernel': { injection: text('/proc/config.gz', null), result: 'yes', seen: 'release' },
  'sysctl.overcommit': { injection: text('/proc/sys/vm/overcommit_memory', '2\n'), result: 'no' },
  'sysctl.max_map_count': { injection: text('/proc/sys/vm/max_map_count', '100\n'), result: 'no' },
  'sysctl.nr_hugepages': { injection: text('/proc/sys/vm/nr_hugepages', '8\n'), result: 'yes' },
  'rlimit.memlock': {
    injection: text('/proc/self/limits', 'Max locked memory  unlimited  unlimited  bytes\n'),
    result: 'yes',
  },
  'rlimit.nofile': { injection: text('/proc/self/limits', 'Max open files  256  256  files\n'), result: 'no' },
  'cgroup.memory.max': {
    injection: {
      text: (path) => ({ '/proc/self/cgroup': '0::/a/b\n', '/sys/fs/cgroup/a/memory.max': '1048576\n' })[path],
    },
    result: 'no',
    seen: 'limited',
  },
};

/** What a request to KVM says; undefined: what the running kernel says. */
function ioctl(asked: number, says: number | ((words: BigUint64Array) => number | undefined)): Injection {
  const answer = (_: unknown, request: unknown, words: unknown) => {
    if (request !== asked) return undefined;
    return typeof says === 'number' ? says : says(words as BigUint64Array);
  };
  return { systemCall: { ioctl: answer } };
}

function kvmOthers(): Record<string, Other> {
  const [checkExtension, attributes, create, setSlot] = [0xae03, 0x4020aed2, 0xc040aed4, 0x40a0ae49];
  const mapped = { systemCall: { mmap: PAGE, munmap: 0 } };
  const touched = (what: string) => says(Scene.prototype, 'access', Promise.resolve(what));
  const slotOf = (words: BigUint64Array) => Number(words[0]! & 0xffff_ffffn);
  const failsWith = (result: number, failedAddress = -1): Injection => ({ run: { result, failedAddress } });
  return {
    'kvm.vmTypes': { injection: ioctl(checkExtension, 3), result: 'yes', seen: 'several' },
    'kvm.run': { injection: failsWith(EFAULT), result: 'differs', seen: 'EFAULT' },
    'kvm.emulated': { injection: { run: { result: 0, exit: portExit(0) } }, result: 'no', seen: 'on the processor' },
    'kvm.memoryAttributes': { injection: ioctl(attributes, 0), result: 'yes' },
    'kvm.preFault': { injection: { preFault: [0, 0] }, result: 'yes' },
    'kvm.vcpuUffdMissing': {
      injection: idleFeatures,
      result: 'differs',
      seen: 'missing, kernel worker, done, read 99',
    },
    'kvm.vcpuUffdMinor': { injection: idleFeatures, result: 'differs', seen: 'minor, kernel worker, done, read 99' },
    'kvm.vcpuUffdAsync': { injection: idleFeatures, result: 'yes' },
    'kvm.vcpuUserModeOnly': { injection: failsWith(EFAULT), result: 'yes' },
    'kvm.vcpuPoison': { injection: failsWith(EHWPOISON, 2 ** 20), result: 'yes' },
    'kvm.signalInterruptsUffdWait': {
      injection: { ...failsWith(EINTR), read: (_, buffer) => message(buffer, EventKind.pagefault, [0n, 0n, 0n]) },
      result: 'yes',
    },
    'gmem.vcpuSource': { injection: { run: { result: 0, exit: portExit(1) } }, result: 'yes' },
    'gmem.create': { injection: ioctl(create, ENOTTY), result: 'no' },
    'gmem.flags': { injection: ioctl(create, EINVAL), result: 'no', seen: 'none' },
    'gmem.sizeRules': { injection: ioctl(create, anyDescriptor), result: 'differs', seen: 'ok, ok, ok' },
    'gmem.cloexec': {
      injection: { systemCall: { fcntl: (_, command) => (command === 1 ? 1 : undefined) } },
      result: 'yes',
    },
    'gmem.mmap.shared': { injection: systemCall('mmap', ENODEV), result: 'differs', seen: 'ENODEV' },
    'gmem.mmap.private': { injection: mapped, result: 'differs', seen: 'ok' },
    'gmem.mmap.exec': { injection: mapped, result: 'differs', seen: 'ok' },
    'gmem.mmap.noFlag': { injection: mapped, result: 'differs', seen: 'ok' },
    'gmem.initSharedTouch': { mock: touched('SIGBUS, si_code 2'), result: 'differs' },
    'gmem.privateTouch': { mock: touched('read 0'), result: 'differs' },
    'gmem.pastEof': { mock: touched('read 0'), result: 'differs' },
    'gmem.fallocate': { injection: systemCall('fallocate', 0), result: 'differs', seen: 'ok, ok, ok' },
    'gmem.punchZeroes': { injection: systemCall('fallocate', 0), result: 'differs', seen: 'ok, read 119' },
    'gmem.readWrite': { injection: systemCall('read', 8), result: 'yes' },
    'gmem.statfsMagic': {
      injection: {
        systemCall: {
          fstatfs: (_, words) => {
            (words as BigUint64Array)[0] = 0x474d454dn;
            return 0;
          },
        },
      },
      result: 'yes',
    },
    'gmem.collapse': { injection: systemCall('madvise', 0), result: 'differs', seen: 'ok, no huge page' },
    'gmem.bind': { injection: ioctl(setSlot, EINVAL), result: 'differs', seen: 'EINVAL' },
    'gmem.bindTwice': {
      injection: ioctl(setSlot, (words) => (slotOf(words) === 1 ? EEXIST : undefined)),
      result: 'yes',
    },
    'gmem.bindOverflow': { injection: ioctl(setSlot, EINVAL), result: 'yes' },
    'gmem.bindForeignVm': { injection: ioctl(setSlot, 0), result: 'differs', seen: 'ok' },
    'gmem.bindDirtyLog': { injection: ioctl(setSlot, 0), result: 'differs', seen: 'ok' },
    'gmem.slotImmutable': { injection: ioctl(setSlot, 0), result: 'differs', seen: 'ok, ok, ok' },
    'mbind.sharedAcrossMappings.gmem': {
      mock: says(Mapping.prototype, 'policyAt', { mode: 'bind', nodes: [0] }),
      result: 'yes',
    },
    'move_pages.gmem': {
      injection: {
        systemCall: {
          move_pages: (...args) => {
            (args[4] as Int32Array)[0] = ENOENT;
            return 0;
          },
        },
      },
      result: 'differs',
      seen: 'ENOENT',
    },
  };
}

/** The second time pagemap is read, the page is dirty. */
function softDirtyOnce() {
  let reads = 0;
  return (_: unknown, entry: unknown) => {
    (entry as BigUint64Array)[0] = reads++ === 0 ? 0n : 1n << 55n;
    return 8;
  };
}

afterEach(() => {
  vi.restoreAllMocks();
});

/** Registered memory and features, and sizes of huge pages: asked both ways below. */
const bothWays = ids.filter((id) =>
  /^reg\..*\.(missing|wp|minor|rwp|wpAsync)$|^uffd\.feature\.|^memfd\.(seal\.|hugetlb\.(default|\d))|^kvm\.cap\./.test(
    id,
  ),
);

test('every probe is here', () => {
  expect([...Object.keys(others), ...bothWays, 'wake.close'].sort()).toEqual([...ids].sort());
});

describe('the other answer', () => {
  test.for(Object.entries(others))('%s', async ([id, { injection = {}, mock, result, seen, blocker }], context) => {
    requires(context, 'root', 'uffd', 'uffd-device', 'hugetlb-2M');
    if (/^kvm|gmem/.test(id)) requires(context, 'kvm', 'guest-memfd');
    mock?.();
    const finding = await askOf(id, injection);
    expect(finding, JSON.stringify(finding)).toMatchObject({
      result,
      ...(seen !== undefined && { evidence: { seen } }),
      ...(blocker !== undefined && { blocker }),
    });
    // Not the one that the table of Linux 6.18 has.
    if (expected[id] !== undefined) expect([finding.result, finding.evidence.seen]).not.toEqual(expected[id]);
  });

  test('wake.close: a descriptor that stays open wakes nobody', async (context) => {
    requires(context, 'uffd');
    const close = vi.fn();
    expect(await askOf('wake.close', { close })).toMatchObject({ result: 'differs', evidence: { seen: 'asleep' } });
    expect(close).toHaveBeenCalled();
  });
});

describe('both answers', () => {
  const register = bothWays.filter((id) => id.startsWith('reg.'));
  test.for(register)('%s', async (id, context) => {
    skipWithoutHardware(id, context);
    const all: Injection = { handshake: (_, real) => real.handshake(0n) };
    expect(await askOf(id, { ...all, register: () => 0x1fcn })).toMatchObject({
      result: 'yes',
      evidence: { seen: 'ok' },
    });
    expect(await askOf(id, { ...all, register: () => EINVAL })).toMatchObject({
      result: 'no',
      evidence: { seen: 'EINVAL' },
    });
  });

  test.each(bothWays.filter((id) => id.startsWith('uffd.feature.')))('%s', async (id) => {
    expect(await askOf(id, { handshake: () => [(1n << 19n) - 1n, 3n] })).toMatchObject({ result: 'yes' });
    expect(await askOf(id, { handshake: () => [0n, 3n] })).toMatchObject({ result: 'no' });
  });

  test.for(bothWays.filter((id) => id.startsWith('kvm.cap.')))('%s', async (id, context) => {
    requires(context, 'kvm');
    expect(await askOf(id, ioctl(0xae03, 1))).toMatchObject({ result: 'yes' });
    expect(await askOf(id, ioctl(0xae03, 0))).toMatchObject({ result: 'no' });
  });

  test.each(bothWays.filter((id) => id.startsWith('memfd.hugetlb')))('%s', async (id) => {
    expect(await askOf(id, systemCall('memfd_create', anyDescriptor))).toMatchObject({ result: 'yes' });
    expect(await askOf(id, systemCall('memfd_create', ENODEV))).toMatchObject({ result: 'no' });
  });

  test.each(bothWays.filter((id) => id.startsWith('memfd.seal.')))('%s', async (id) => {
    expect(await askOf(id, {})).toMatchObject({ result: 'yes' });
    const refuses: Injection = { systemCall: { fcntl: (_, command) => (command === 1033 ? EINVAL : undefined) } };
    expect(await askOf(id, refuses)).toMatchObject({ result: 'no' });
  });
});

test('a file of a tmpfs is shared memory, and not asked about', async () => {
  const tmpfs: Injection = {
    systemCall: {
      fstatfs: (_, words) => {
        (words as BigUint64Array)[0] = 0x01021994n;
        return 0;
      },
    },
  };
  expect(await askOf('reg.file.missing', tmpfs)).toMatchObject({ result: 'skipped' });
});

test('without user namespaces everybody is in the initial one', async () => {
  const capable = { '/proc/self/status': 'CapEff:\t000001ffffffffff\n', '/proc/self/uid_map': null };
  const finding = await askOf('cap.ptrace', { text: (path) => (capable as Record<string, string | null>)[path] });
  expect(finding).toMatchObject({ result: 'yes', evidence: { seen: 'held' } });
});

test('an answer that no kernel is known to give differs', async () => {
  const finding = await askOf('zeropage.anon', answers('zeropage', ESRCH));
  expect(finding).toMatchObject({ result: 'differs', evidence: { seen: 'ESRCH' } });
  expect(finding.meaning).toContain('no kernel');
});

test('too many open files is a limit of this process, with the remedy', async () => {
  const finding = await askOf('memfd.punch', {});
  expect(finding.result).toBe('yes');
  vi.spyOn(Memfd, 'create').mockImplementation(() => {
    throw new KernelError(-24, 'memfd_create');
  });
  expect(await askOf('memfd.punch', {})).toMatchObject({
    result: 'blocked',
    blocker: 'resource limit',
    remedy: expect.stringContaining('ulimit -n') as string,
  });
});

test('nothing is left behind: no descriptor, no memfd, no child', async (context) => {
  requires(context, 'root', 'uffd', 'hugetlb-2M');
  // Starts the second thread, which stays.
  await askOf('mm.dead', {});
  const held = () => [openDescriptors(), mappingsOf('memfd:uffd-probe'), childProcesses()];
  const before = held();
  const guests = [
    'kvm.vcpuUffdMissing',
    'kvm.signalInterruptsUffdWait',
    'kvm.emulated',
    'gmem.vcpuSource',
    'gmem.bind',
  ];
  const plain = ['mm.dead', 'reg.hugetlb2m.missing', 'memfd.thp', 'process_madvise.remote', 'reg.secretmem.wp'];
  for (const id of [...plain, ...guests]) {
    await askOf(id, {});
  }
  expect(held()).toEqual(before);
});

function childProcesses(): string {
  return readdirSync('/proc/self/task')
    .map((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8'))
    .join('');
}
