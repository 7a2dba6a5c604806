import { type MemoryKind, never, since } from './kind.js';

const registers: MemoryKind['registers'] = {
  missing: since('4.11'),
  wp: since('5.19'),
  minor: since('5.13'),
  rwp: since('7.3'),
};
const answers: MemoryKind['answers'] = {
  wake: since('4.3'),
  copy: since('4.11'),
  zeropage: never('there is no huge page of zeroes to share; copy zeroes'),
  continue: since('5.13'),
  writeprotect: since('5.19'),
  poison: since('6.6'),
  move: never('only private anonymous pages can be moved; copy them'),
  rwprotect: since('7.3'),
};

/** Huge pages of a memfd (MFD_HUGETLB) mapped shared; ranges and answers are whole huge pages. */
export const hugetlb: MemoryKind = {
  name: 'hugetlb',
  description: 'shared huge pages (hugetlb)',
  registers,
  answers,
  fillWays: ['copy', 'continue'],
  copyExists: 'unknown',
};

/** The same, mapped private. */
export const hugetlbPrivate: MemoryKind = {
  name: 'hugetlb-private',
  description: 'private huge pages (hugetlb)',
  registers,
  answers,
  fillWays: ['copy', 'continue'],
  copyExists: 'unknown',
  behind: 'kept',
};
