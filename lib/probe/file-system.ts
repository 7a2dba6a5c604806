// fstatfs(2): what kind of file system a descriptor belongs to.
import { outcomeName } from './kernel.js';
import { NotThere } from './probe.js';
import type { Scene } from './scene.js';

/** Words of a struct statfs; its first one is the magic number. */
const STATFS_WORDS = 16;

/** Its magic number. @throws NotThere */
export function fileSystemOf(scene: Scene, fd: number): bigint {
  const words = new BigUint64Array(STATFS_WORDS);
  const returned = scene.call('fstatfs', fd, words);
  if (returned < 0) throw new NotThere({ seen: outcomeName(returned) }, 'fstatfs(2)');
  return words[0]!;
}
