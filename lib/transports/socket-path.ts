// The socket file: made 0600, a live one never replaced, a stale one is.
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { KernelError, UffdError } from '../errors.js';
import { native } from '../native/load.js';

/** sun_path holds 108 bytes with its terminating zero. */
export const MAX_SOCKET_PATH_BYTES = 107;
const EADDRINUSE = -98;
const ECONNREFUSED = -111;
const BACKLOG = 128;

/**
 * @param othersMayConnect widens the mode to 0666; who is let in is then a matter of the peer's credentials alone
 * @throws UffdError ERR_SOCKET_IN_USE, ERR_OUT_OF_RANGE (path too long); KernelError
 */
export function listenAt(path: string, othersMayConnect: boolean): number {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new UffdError(
      'ERR_OUT_OF_RANGE',
      `the socket path has ${Buffer.byteLength(path)} bytes, ${MAX_SOCKET_PATH_BYTES} is the most: choose a shorter one`,
    );
  }
  let fd = native().UnixSocket.listen(path, BACKLOG);
  if (fd === EADDRINUSE) {
    removeStale(path);
    fd = native().UnixSocket.listen(path, BACKLOG);
  }
  if (fd === EADDRINUSE) throw inUse(path);
  if (fd < 0) throw new KernelError(fd, 'bind', path);
  if (othersMayConnect) chmodSync(path, 0o666);
  return fd;
}

function removeStale(path: string): void {
  if (!lstatSync(path).isSocket()) {
    throw new UffdError('ERR_SOCKET_IN_USE', `${path} exists and is not a socket: choose another path`);
  }
  const probe = native().UnixSocket.connect(path);
  if (probe >= 0) native().closeFd(probe);
  // Refused: a socket file that nobody listens at any more. Anything else (a full queue, no permission) is a live one.
  if (probe !== ECONNREFUSED) throw inUse(path);
  unlinkSync(path);
}

function inUse(path: string): UffdError {
  return new UffdError('ERR_SOCKET_IN_USE', `a live process listens at ${path}: stop it or choose another path`);
}

/** Removes the socket file if it is still the one made here. */
export function removeSocket(path: string, inode: bigint): void {
  try {
    if (lstatSync(path, { bigint: true }).ino === inode) unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
