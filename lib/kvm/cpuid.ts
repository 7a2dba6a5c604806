// CPUID leaves, as KVM_GET_SUPPORTED_CPUID gives and KVM_SET_CPUID2 takes them.

/** kvm_cpuid_entry2. */
export interface CpuidEntry {
  readonly function: number;
  readonly index: number;
  /** Bit 0: `index` matters. */
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

const WORDS = 10;

export function cpuidEntries(words: Uint32Array): CpuidEntry[] {
  return Array.from({ length: words.length / WORDS }, (_, entry) => {
    const word = (field: number) => words[entry * WORDS + field]!;
    return {
      function: word(0),
      index: word(1),
      flags: word(2),
      eax: word(3),
      ebx: word(4),
      ecx: word(5),
      edx: word(6),
    };
  });
}

export function cpuidWords(entries: readonly CpuidEntry[]): Uint32Array {
  const words = new Uint32Array(entries.length * WORDS);
  for (const [index, entry] of entries.entries()) {
    const { flags, eax, ebx, ecx, edx } = entry;
    words.set([entry.function, entry.index, flags, eax, ebx, ecx, edx], index * WORDS);
  }
  return words;
}
