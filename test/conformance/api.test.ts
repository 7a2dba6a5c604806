// The handshake, by both ways to open a userfaultfd: what it refuses, and that a refusal spoils nothing.
import { closeSync, openSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { availableFeatures } from '../../dist/index.js';
import { native } from '../../dist/native/load.js';
import { featureMask } from '../../dist/userfaultfd/features.js';
import { lacks, requires } from '../support/requires.js';

const UFFDIO_API = 0xc018aa3f;
const USERFAULTFD_IOC_NEW = 0xaa00;
const UFFD_API = 0xaan;
const O_CLOEXEC_NONBLOCK = 0o2004000;
const EINVAL = -22;

function bySystemCall(): number {
  return native().systemCall('userfaultfd', O_CLOEXEC_NONBLOCK);
}

function byDevice(): number {
  const device = openSync('/dev/userfaultfd', 'r+');
  try {
    return native().systemCall('ioctl', device, USERFAULTFD_IOC_NEW, O_CLOEXEC_NONBLOCK);
  } finally {
    closeSync(device);
  }
}

/** UFFDIO_API with such a struct, which is what the kernel has made of it afterwards. */
function handshake(fd: number, api: bigint, features: bigint): [number, bigint[]] {
  const request = BigUint64Array.of(api, features, 7n);
  return [native().systemCall('ioctl', fd, UFFDIO_API, request), [...request]];
}

const routes = [
  { name: 'UFFDIO_API (with syscall)', open: bySystemCall, needs: 'uffd' },
  { name: 'UFFDIO_API (with /dev/userfaultfd)', open: byDevice, needs: 'uffd-device' },
] as const;

for (const { name, open, needs } of routes) {
  test(`${name}: a wrong version, an unknown feature, all features, and a second time`, (context) => {
    requires(context, 'uffd', needs);
    const fd = open();
    expect(fd).toBeGreaterThan(0);
    onTestFinished(() => {
      native().closeFd(fd);
    });
    const zeroed = [EINVAL, [0n, 0n, 0n]];
    expect(handshake(fd, 0xabn, 0n)).toEqual(zeroed);
    expect(handshake(fd, UFFD_API, 1n << 63n)).toEqual(zeroed);
    const { names, unknown, ioctls } = availableFeatures();
    const available = featureMask(names) | unknown;
    // eventFork needs a capability of its own.
    const asked = lacks('uffd-event-fork') ? available & ~featureMask(['eventFork']) : available;
    expect(handshake(fd, UFFD_API, asked)).toEqual([0, [UFFD_API, available, ioctls]]);
    expect(handshake(fd, UFFD_API, 0n)).toEqual(zeroed);
  });
}
