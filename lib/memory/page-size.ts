// The page size of this machine, asked once.
import { native } from '../native/load.js';

let size = 0;

/** Bytes of a base page (sysconf(_SC_PAGESIZE)): 4096 on x86-64. */
export function pageSize(): number {
  return (size ||= native().pageSize());
}

/** `bytes` rounded up to a whole number of pages. */
export function roundUpToPages(bytes: number, page = pageSize()): number {
  return Math.ceil(bytes / page) * page;
}
