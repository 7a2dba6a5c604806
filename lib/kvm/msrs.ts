// struct kvm_msr_entry: the index and the value of a model-specific register.

const ENTRY = 16;

export function encodeMsrs(values: readonly (readonly [index: number, value: bigint])[]): Buffer {
  const bytes = Buffer.alloc(values.length * ENTRY);
  for (const [position, [index, value]] of values.entries()) {
    bytes.writeUInt32LE(index, position * ENTRY);
    bytes.writeBigUInt64LE(value, position * ENTRY + 8);
  }
  return bytes;
}

export function decodeMsrs(bytes: Buffer): [index: number, value: bigint][] {
  return Array.from({ length: bytes.length / ENTRY }, (_, position) => [
    bytes.readUInt32LE(position * ENTRY),
    bytes.readBigUInt64LE(position * ENTRY + 8),
  ]);
}
