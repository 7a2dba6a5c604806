import { type MemoryKind, never, since } from './kind.js';

const noPageCache = never('there is no page cache behind it, so nothing is ever there without being mapped');

/** Private memory without a file: mmap(2) with MAP_PRIVATE and MAP_ANONYMOUS. */
export const anonymous: MemoryKind = {
  name: 'anonymous',
  description: 'private anonymous memory',
  registers: { missing: since('4.3'), wp: since('5.7'), minor: noPageCache, rwp: since('7.3') },
  answers: {
    wake: since('4.3'),
    copy: since('4.3'),
    zeropage: since('4.3'),
    continue: noPageCache,
    writeprotect: since('5.7'),
    poison: since('6.6'),
    move: since('6.8'),
    rwprotect: since('7.3'),
  },
  fillWays: ['copy'],
  copyExists: 'mapped',
};
