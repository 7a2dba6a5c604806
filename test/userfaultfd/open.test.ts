import { beforeEach, expect, test } from 'vitest';
import { Userfaultfd, availableFeatures, isSupported } from '../../dist/index.js';
import type { FeatureName } from '../../dist/index.js';
import { Feature, featureMask, featureNames, unknownFeatures } from '../../dist/userfaultfd/features.js';
import { handshake } from '../../dist/userfaultfd/open.js';
import { expectCleanExit, runScript } from '../support/child.js';
import { userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';

const asNobody = new URL('./open-as-nobody.mjs', import.meta.url);

beforeEach((context) => {
  requires(context, 'uffd');
});

test('the device is the route where there is one', (context) => {
  requires(context, 'uffd-device');
  expect(userfaultfd().route).toEqual({ via: 'device' });
});

test('what is supported, without throwing and without leaving a descriptor', () => {
  const before = openDescriptors();
  expect(isSupported()).toEqual({ supported: true, kernelFaults: true });
  expect(openDescriptors()).toBe(before);
});

test('available features: named, with the ioctls of the handshake itself', () => {
  const before = openDescriptors();
  const { names, unknown, ioctls } = availableFeatures();
  expect(names).toContain('missingShmem');
  expect(unknown >= 0n).toBe(true);
  // UFFDIO_API, REGISTER and UNREGISTER.
  expect(ioctls & (1n << 63n)).not.toBe(0n);
  expect(ioctls & 3n).toBe(3n);
  expect(openDescriptors()).toBe(before);
});

test('features asked for, and all that there are', () => {
  const uffd = userfaultfd(['threadId', 'eventRemove']);
  expect(uffd.features).toEqual(new Set(['threadId', 'eventRemove']));
  expect(uffd.availableFeatures).toEqual(availableFeatures().names);
});

test('a descriptor is close-on-exec, non-blocking and closed once', () => {
  const before = openDescriptors('userfaultfd');
  const uffd = Userfaultfd.open({ userModeOnly: true });
  expect(openDescriptors('userfaultfd')).toBe(before + 1);
  uffd.close();
  uffd.close();
  expect(openDescriptors('userfaultfd')).toBe(before);
});

test('using closes', () => {
  const before = openDescriptors('userfaultfd');
  {
    using uffd = Userfaultfd.open();
    expect(uffd.alive).toBe(true);
  }
  expect(openDescriptors('userfaultfd')).toBe(before);
});

test('a feature the kernel lacks is ERR_FEATURE_MISSING with its name, and leaves no descriptor', (context) => {
  const { names } = availableFeatures();
  const missing = (['rwp', 'rwpAsync', 'move', 'poison'] as FeatureName[]).find((name) => !names.has(name));
  if (missing === undefined) {
    context.skip('this kernel has every feature there is a name for');
    return;
  }
  const before = openDescriptors();
  expect(() => Userfaultfd.open({ features: ['threadId', missing] })).toThrow(
    expect.objectContaining({ code: 'ERR_FEATURE_MISSING', missing: [missing] }),
  );
  expect(openDescriptors()).toBe(before);
});

test('a handshake that fails though every feature is there is an errno', () => {
  const descriptor = { handshake: () => -1 };
  expect(() => handshake(descriptor, ['eventFork'], true)).toThrow(
    expect.objectContaining({ code: 'EPERM', message: expect.stringContaining('CAP_SYS_PTRACE') as string }),
  );
});

test('masks and names are each other turned round', () => {
  const all = Object.keys(Feature) as FeatureName[];
  expect(featureNames(featureMask(all))).toEqual(new Set(all));
  expect(featureMask(['pagefaultFlagWp', 'rwpAsync'])).toBe((1n << 0n) | (1n << 18n));
  expect(unknownFeatures((1n << 40n) | 3n)).toBe(1n << 40n);
});

test('as nobody: the errno names the remedy, and userModeOnly works', async (context) => {
  requires(context, 'root');
  const { full, userModeOnly, support } = JSON.parse(expectCleanExit(await runScript(asNobody))) as {
    full: { code: string; syscall: string; message: string };
    userModeOnly: { route: unknown; installed: string };
    support: { supported: boolean; kernelFaults: boolean; reason: string };
  };
  expect(full).toMatchObject({ code: 'EPERM', syscall: 'userfaultfd' });
  for (const remedy of [
    '/dev/userfaultfd: EACCES',
    'vm.unprivileged_userfaultfd=1',
    'CAP_SYS_PTRACE',
    'userModeOnly',
  ]) {
    expect(full.message).toContain(remedy);
  }
  expect(full.message).not.toContain('\n');
  expect(userModeOnly).toEqual({
    route: { via: 'syscall', deviceError: 'EACCES' },
    installed: 'installed',
    read: 'ok',
  });
  expect(support).toMatchObject({ supported: true, kernelFaults: false, reason: full.message });
});
