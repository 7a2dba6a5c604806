// Which pages a client of the benchmark touches, and in which order: the same in every run.
import { pageSize } from '../../memory/page-size.js';
import { shuffled } from '../touching.js';

/** All pages; a quarter of them, each by itself; a quarter of all aligned parts of 256 KiB, each of them whole. */
export type Touched = 'all' | 'uniform' | 'clusters';

export const CLUSTER_BYTES = 256 * 1024;
const SHARE = 4;

/** In random order, whatever they are. */
export function touchedPages(touched: Touched, sizeBytes: number): Uint32Array {
  const pages = sizeBytes / pageSize();
  const all = shuffled(pages);
  if (touched === 'all') return all;
  if (touched === 'uniform') return all.subarray(0, pages / SHARE);
  const perCluster = CLUSTER_BYTES / pageSize();
  const clusters = new Set(shuffled(pages / perCluster).subarray(0, pages / perCluster / SHARE));
  return all.filter((page) => clusters.has(Math.floor(page / perCluster)));
}
