import { type MemoryKind, never, since } from './kind.js';

const sharedPages = never('only private anonymous pages can be moved; copy them');

const answers: MemoryKind['answers'] = {
  wake: since('4.3'),
  copy: since('4.11'),
  zeropage: since('4.11'),
  continue: since('5.14'),
  writeprotect: since('5.19'),
  poison: since('6.6'),
  move: sharedPages,
  rwprotect: since('7.3'),
};
const registers: MemoryKind['registers'] = {
  missing: since('4.11'),
  wp: since('5.19'),
  minor: since('5.14'),
  rwp: since('7.3'),
};

/** A memfd mapped shared, and shared anonymous memory, which is a memfd nobody has the descriptor of. */
export const shmem: MemoryKind = {
  name: 'shmem',
  description: 'shared memory (memfd, shmem)',
  registers,
  answers,
  fillWays: ['copy', 'continue'],
  copyExists: 'unknown',
};

/** A memfd mapped private: COPY makes a page of its own, CONTINUE maps the memfd's, copied on write. */
export const memfdPrivate: MemoryKind = {
  name: 'memfd-private',
  description: 'a private mapping of a memfd',
  registers,
  answers,
  fillWays: ['copy', 'continue'],
  copyExists: 'mapped',
  behind: 'kept',
};
