// madvise(2) advice by name.

export const Advice = {
  normal: 0,
  random: 1,
  sequential: 2,
  willNeed: 3,
  dontNeed: 4,
  free: 8,
  remove: 9,
  hugePage: 14,
  noHugePage: 15,
  cold: 20,
  pageOut: 21,
  populateRead: 22,
  populateWrite: 23,
  collapse: 25,
  guardInstall: 102,
  guardRemove: 103,
} as const;

/**
 * Names of madvise(2) advice, which are those of the kernel: `dontNeed` is MADV_DONTNEED, `pageOut` MADV_PAGEOUT,
 * `noHugePage` MADV_NOHUGEPAGE, and so on. `normal`, `random`, `sequential`, `willNeed` and `dontNeed` have always been
 * there; `remove` (shared memory) since Linux 2.6.16, `hugePage` and `noHugePage` 2.6.38, `free` (private anonymous
 * memory) 4.5, `cold` and `pageOut` 5.4, `populateRead` and `populateWrite` 5.14, `collapse` 6.1, `guardInstall` and
 * `guardRemove` 6.13 (of files and shared memory 6.15).
 */
export type AdviceName = keyof typeof Advice;
