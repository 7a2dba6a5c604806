// A vCPU in 64-bit long mode from its first instruction on: identity-mapped by 2 MiB pages, flat segments.
import type { SpecialRegisters, Segment } from '../kvm/registers.js';
import { FACTOR, type GuestWork, Layout } from './guest-program.js';

const PAGE = 4096;
const ENTRIES = 512;
const LARGE_PAGE = 2 ** 21;
const GIB = 2 ** 30;

/** Bits of a page table entry. */
const Pte = { present: 1n, write: 2n, large: 0x80n } as const;

const CR0 = 0x80000011n; // paging, protection, extension type
const CR4_PAE = 0x20n;
const EFER = 0x500n; // long mode enabled and active
const RFLAGS_FIXED = 2n;

/** The page tables for so many bytes from 0 on, to be written at `Layout.pageTables`: root, one table, one per GiB. */
export function pageTables(bytes: number): Buffer {
  const gibs = Math.ceil(bytes / GIB);
  const tables = Buffer.alloc((2 + gibs) * PAGE);
  const entry = (table: number, index: number, value: bigint) => {
    tables.writeBigUInt64LE(value, table * PAGE + index * 8);
  };
  const link = (table: number) => BigInt(Layout.pageTables + table * PAGE) | Pte.present | Pte.write;
  entry(0, 0, link(1));
  for (let gib = 0; gib < gibs; gib++) {
    entry(1, gib, link(2 + gib));
    for (let index = 0; index < ENTRIES; index++) {
      entry(2 + gib, index, BigInt(gib * GIB + index * LARGE_PAGE) | Pte.present | Pte.write | Pte.large);
    }
  }
  return tables;
}

const code: Partial<Segment> = { type: 0xb, s: 1, l: 1, selector: 8 };
const data: Partial<Segment> = { type: 3, s: 1, db: 1, selector: 16 };

/** @param initial what a new vCPU has */
export function longMode(initial: SpecialRegisters): SpecialRegisters {
  const flat = { base: 0n, limit: 0xffffffff, present: 1, g: 1, dpl: 0, db: 0, s: 0, l: 0, avl: 0, unusable: 0 };
  const segment = (from: Partial<Segment>): Segment => ({ ...flat, selector: 0, type: 0, ...from });
  const dataSegment = segment(data);
  return {
    ...initial,
    cs: segment(code),
    ds: dataSegment,
    es: dataSegment,
    fs: dataSegment,
    gs: dataSegment,
    ss: dataSegment,
    cr0: CR0,
    cr3: BigInt(Layout.pageTables),
    cr4: CR4_PAE,
    efer: EFER,
  };
}

/** The general registers of vCPU `index` at an entry of the guest program. */
export function registersAt(entry: number, index: number, work: GuestWork) {
  const zero = 0n;
  return {
    rax: zero,
    rbx: zero,
    rcx: zero,
    rdx: zero,
    rsi: BigInt(work.start),
    rdi: BigInt(work.end),
    rsp: BigInt(Layout.stacks + (index + 1) * PAGE),
    rbp: zero,
    r8: BigInt(work.strideBytes),
    r9: FACTOR,
    r10: zero,
    r11: zero,
    r12: zero,
    r13: zero,
    r14: zero,
    r15: BigInt(index),
    rip: BigInt(Layout.code + entry),
    rflags: RFLAGS_FIXED,
  };
}
