// The kernels of the lab, and where each one comes from.
import { debianKernel, debianKernelIsCached } from './debian-kernel.js';
import { DebianMirror } from './debian-mirror.js';
import { gmemKernel, readyGmemKernel } from './gmem-kernel.js';
import type { Found } from './kernel.js';
import type { Workspace } from './workspace.js';

export interface KernelChoice {
  readonly name: string;
  /** Mirrors keep these; of the others it is no failure when they are gone. */
  readonly required: boolean;
}

/** In the order in which they are run: what fails on the oldest or on the newest is seen first. */
export const allKernels: readonly KernelChoice[] = [
  { name: '6.1', required: true },
  { name: '7.3', required: true },
  { name: 'gmem', required: true },
  { name: '6.12', required: true },
  { name: '6.18', required: false },
  { name: '7.2', required: false },
];

export class Kernels {
  readonly #workspace: Workspace;
  readonly #mirror: DebianMirror;
  /** Look for newer ones than the cache has. */
  readonly #refresh: boolean;

  constructor(workspace: Workspace, refresh: boolean) {
    this.#workspace = workspace;
    this.#mirror = new DebianMirror(workspace);
    this.#refresh = refresh;
  }

  /** @throws LabError when it should be there, but could not be fetched or built */
  async find(name: string): Promise<Found> {
    if (name === 'gmem') return { kernel: await gmemKernel(this.#workspace, this.#mirror) };
    return debianKernel(name, { workspace: this.#workspace, mirror: this.#mirror, refresh: this.#refresh });
  }
}

/** Whether it can be had without fetching or building anything. */
export function isCached(name: string, workspace: Workspace): boolean {
  return name === 'gmem' ? readyGmemKernel(workspace) !== undefined : debianKernelIsCached(name, workspace);
}
