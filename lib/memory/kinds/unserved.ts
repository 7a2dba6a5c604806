// Memory that the kernel does not let a userfaultfd serve: registered for write tracking at most (WP_ASYNC).
import { type MemoryKind, type Since, notYet, since } from './kind.js';

const async = since('6.7', 'as the only mode, with the feature wpAsync');

export function unserved(name: MemoryKind['name'], description: string, not: Since): MemoryKind {
  return {
    name,
    description,
    registers: { missing: not, wp: async, minor: not, rwp: not },
    answers: {
      wake: since('4.3'),
      copy: not,
      zeropage: not,
      continue: not,
      writeprotect: async,
      poison: not,
      move: not,
      rwprotect: not,
    },
    fillWays: [],
    copyExists: 'unknown',
  };
}

/** A mapping of a file on a disk. */
export const file = unserved(
  'file',
  'a file of a disk',
  notYet('its file system brings the pages, and no kernel up to 7.3 asks a userfaultfd; use a memfd'),
);

/** memfd_secret(2). */
export const secretmem = unserved(
  'secretmem',
  'secret memory (memfd_secret)',
  notYet('no kernel up to 7.3 lets a userfaultfd serve it'),
);
