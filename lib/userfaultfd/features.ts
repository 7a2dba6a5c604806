// Feature, mode and answer bits by name (linux/userfaultfd.h).
import { UffdError } from '../errors.js';
import type { AnswerName, RegisterModeName } from '../memory/kinds/kind.js';

/** uffdio_api.features; the Linux version that added each is in docs/kernel-support.md. */
export const Feature = {
  pagefaultFlagWp: 1n << 0n,
  eventFork: 1n << 1n,
  eventRemap: 1n << 2n,
  eventRemove: 1n << 3n,
  missingHugetlbfs: 1n << 4n,
  missingShmem: 1n << 5n,
  eventUnmap: 1n << 6n,
  sigbus: 1n << 7n,
  threadId: 1n << 8n,
  minorHugetlbfs: 1n << 9n,
  minorShmem: 1n << 10n,
  exactAddress: 1n << 11n,
  wpHugetlbfsShmem: 1n << 12n,
  wpUnpopulated: 1n << 13n,
  poison: 1n << 14n,
  wpAsync: 1n << 15n,
  move: 1n << 16n,
  rwp: 1n << 17n,
  rwpAsync: 1n << 18n,
} as const;
/** Names of userfaultfd features; docs/kernel-support.md has the version of each. */
export type FeatureName = keyof typeof Feature;

/** uffdio_register.mode: which faults of the range are reported. */
export const RegisterMode = { missing: 1, wp: 2, minor: 4, rwp: 8 } as const satisfies Record<RegisterModeName, number>;

/** Bits of uffdio_register.ioctls: which answers the range takes. */
export const answerBits = {
  wake: 2n,
  copy: 3n,
  zeropage: 4n,
  move: 5n,
  writeprotect: 6n,
  continue: 7n,
  poison: 8n,
  rwprotect: 9n,
} as const satisfies Record<AnswerName, bigint>;

/** @throws UffdError ERR_INVALID_ARGUMENT for a name that does not exist */
function bitOf<T extends bigint | number>(table: Readonly<Record<string, T>>, name: string): T {
  const bit = Object.hasOwn(table, name) ? table[name] : undefined;
  if (bit !== undefined) return bit;
  throw new UffdError('ERR_INVALID_ARGUMENT', `unknown name ${name}: known are ${Object.keys(table).join(', ')}`);
}

export function featureMask(names: Iterable<FeatureName>): bigint {
  let mask = 0n;
  for (const name of names) mask |= bitOf(Feature, name);
  return mask;
}

export function registerMask(names: Iterable<RegisterModeName>): number {
  let mask = 0;
  for (const name of names) mask |= bitOf(RegisterMode, name);
  return mask;
}

export function featureNames(mask: bigint): Set<FeatureName> {
  return new Set((Object.keys(Feature) as FeatureName[]).filter((name) => (mask & Feature[name]) !== 0n));
}

/** The bits of a mask that have no name here: a newer kernel's. Reported, never rejected. */
export function unknownFeatures(mask: bigint): bigint {
  return mask & ~featureMask(Object.keys(Feature) as FeatureName[]);
}

export function answerNames(mask: bigint): Set<AnswerName> {
  return new Set((Object.keys(answerBits) as AnswerName[]).filter((name) => (mask >> answerBits[name]) & 1n));
}
