// The x86 registers of a vCPU: struct kvm_regs and struct kvm_sregs as objects.

const generalNames = [
  'rax',
  'rbx',
  'rcx',
  'rdx',
  'rsi',
  'rdi',
  'rsp',
  'rbp',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
  'rip',
  'rflags',
] as const;

/** General registers; each is a 64-bit value. */
export type Registers = Record<(typeof generalNames)[number], bigint>;

/** struct kvm_segment, without its padding. */
export interface Segment {
  base: bigint;
  limit: number;
  selector: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
}

const segmentNames = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const;
const tableNames = ['gdt', 'idt'] as const;
const controlNames = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apicBase'] as const;
const segmentBytes = ['type', 'present', 'dpl', 'db', 's', 'l', 'g', 'avl', 'unusable'] as const;

/** Segments, descriptor tables and control registers. */
export type SpecialRegisters = Record<(typeof segmentNames)[number], Segment> &
  Record<(typeof tableNames)[number], { base: bigint; limit: number }> &
  Record<(typeof controlNames)[number], bigint> & {
    /** An interrupt that KVM is about to inject: 256 bits. */
    interruptBitmap: bigint[];
  };

const SEGMENT = 24;
const TABLES = segmentNames.length * SEGMENT;
const TABLE = 16;
const CONTROLS = TABLES + tableNames.length * TABLE;
const BITMAP = CONTROLS + controlNames.length * 8;
const BITMAP_WORDS = 4;
const SPECIAL_BYTES = BITMAP + BITMAP_WORDS * 8;

export function decodeRegisters(bytes: Buffer): Registers {
  return Object.fromEntries(generalNames.map((name, index) => [name, bytes.readBigUInt64LE(index * 8)])) as Registers;
}

export function encodeRegisters(registers: Registers): Buffer {
  const bytes = Buffer.alloc(generalNames.length * 8);
  for (const [index, name] of generalNames.entries()) {
    bytes.writeBigUInt64LE(BigInt.asUintN(64, registers[name]), index * 8);
  }
  return bytes;
}

export function decodeSpecialRegisters(bytes: Buffer): SpecialRegisters {
  const fields: [string, unknown][] = [
    ...segmentNames.map((name, index): [string, Segment] => [name, decodeSegment(bytes, index * SEGMENT)]),
    ...tableNames.map((name, index): [string, unknown] => {
      const at = TABLES + index * TABLE;
      return [name, { base: bytes.readBigUInt64LE(at), limit: bytes.readUInt16LE(at + 8) }];
    }),
    ...controlNames.map((name, index): [string, bigint] => [name, bytes.readBigUInt64LE(CONTROLS + index * 8)]),
  ];
  const interruptBitmap = Array.from({ length: BITMAP_WORDS }, (_, word) => bytes.readBigUInt64LE(BITMAP + word * 8));
  return { ...Object.fromEntries(fields), interruptBitmap } as SpecialRegisters;
}

export function encodeSpecialRegisters(registers: SpecialRegisters): Buffer {
  const bytes = Buffer.alloc(SPECIAL_BYTES);
  for (const [index, name] of segmentNames.entries()) encodeSegment(registers[name], bytes, index * SEGMENT);
  for (const [index, name] of tableNames.entries()) {
    const at = TABLES + index * TABLE;
    bytes.writeBigUInt64LE(registers[name].base, at);
    bytes.writeUInt16LE(registers[name].limit, at + 8);
  }
  for (const [index, name] of controlNames.entries()) bytes.writeBigUInt64LE(registers[name], CONTROLS + index * 8);
  for (const [word, value] of registers.interruptBitmap.entries()) bytes.writeBigUInt64LE(value, BITMAP + word * 8);
  return bytes;
}

function decodeSegment(bytes: Buffer, at: number): Segment {
  const segment: Record<string, number | bigint> = {
    base: bytes.readBigUInt64LE(at),
    limit: bytes.readUInt32LE(at + 8),
    selector: bytes.readUInt16LE(at + 12),
  };
  for (const [index, name] of segmentBytes.entries()) segment[name] = bytes.readUInt8(at + 14 + index);
  return segment as unknown as Segment;
}

function encodeSegment(segment: Segment, bytes: Buffer, at: number): void {
  bytes.writeBigUInt64LE(segment.base, at);
  bytes.writeUInt32LE(segment.limit, at + 8);
  bytes.writeUInt16LE(segment.selector, at + 12);
  for (const [index, name] of segmentBytes.entries()) bytes.writeUInt8(segment[name], at + 14 + index);
}
