import type { PuppetMemory } from './puppet.js';

export interface MremapCase {
  readonly name: string;
  readonly on: PuppetMemory;
  readonly memory: PuppetMemory;
  /** Bytes of the folio. */
  readonly size: number;
  readonly swapout: boolean;
}
export const mremapCases: readonly MremapCase[];

export interface KernelCase {
  readonly name: string;
  /** Names of `memories`; empty text: of none. */
  readonly on: readonly string[];
  /** The file here, without `.test.ts`. */
  readonly file: string;
}
export const kernelSuites: readonly { readonly suite: string; readonly cases: readonly KernelCase[] }[];
