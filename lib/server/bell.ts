// Rings the eventfd that ends a worker's wait, from another thread. Each ringer has a descriptor of its own: the worker
// closes its queue when it is stopped, and the number may be that of something else before the last one rings.
import { checked } from '../errors.js';
import { native } from '../native/load.js';

export class Bell implements Disposable {
  #fd: number;

  /** @param fd from `Bell.given`; closed with this object */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** A descriptor to send to one ringer, which owns it from then on. @param wakeFd of the queue @throws KernelError */
  static given(wakeFd: number): number {
    return checked(native().duplicateFd(wakeFd), 'dup');
  }

  /** Does nothing once it is closed. */
  ring(): void {
    if (this.#fd >= 0) native().signalEvent(this.#fd);
  }

  close(): void {
    if (this.#fd >= 0) native().closeFd(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
