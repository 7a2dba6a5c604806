// `onFailure: 'kill'`: the end of a client, and why it could not be had.
import { errnoName } from '../errors.js';
import { native } from '../native/load.js';

const SIGKILL = 9;
const EPERM = -1;
const ESRCH = -3;

/** Kills the process, if it is not dead already; why that cannot be done. */
export function killClient(pidfd: number): string | undefined {
  if (pidfd < 0) return 'there is no pidfd of it';
  const error = native().sendSignal(pidfd, SIGKILL);
  if (error >= 0 || error === ESRCH) return undefined;
  if (error === EPERM) return 'EPERM; the server needs the same user, or CAP_KILL';
  return errnoName(error)[0];
}
