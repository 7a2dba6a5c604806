// The pools of huge pages (Documentation/admin-guide/mm/hugetlbpage.rst).
import { readFileSync } from 'node:fs';

/** Huge pages of a size that an unreserved access could still get. */
export function freeHugePages(pageSize: number): number {
  const pool = `/sys/kernel/mm/hugepages/hugepages-${pageSize / 1024}kB`;
  const read = (name: string) => Number(readFileSync(`${pool}/${name}`, 'utf8'));
  const overcommit = Math.max(0, read('nr_overcommit_hugepages') - read('surplus_hugepages'));
  return Math.max(0, read('free_hugepages') - read('resv_hugepages')) + overcommit;
}
