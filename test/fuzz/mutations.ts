// Inputs for fuzzing: right ones, with bytes changed, cut out, repeated and put elsewhere.
import process from 'node:process';

/** Always the same, so that a run of the tests says something about the change; a new one when it is asked to go on. */
export const seed = Number(
  process.env['UFFD_FUZZ_SEED'] ?? (process.env['UFFD_FUZZ_SECONDS'] === undefined ? 1 : Date.now() % 2 ** 31),
);

/** The same numbers for the same seed, so that what was found is found again. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number below `limit`. */
  below(limit: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * limit);
  }

  of<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }
}

/** Pieces that parsers stumble over. */
const odd = ['[', ']', '{', '}', '"', '\\', ',', ':', '0', '-1', '1e400', 'null', '\0', '\xff', '9007199254740993'];

/** One of the seeds with a few changes. */
export function mutated(random: Random, seeds: readonly string[]): Buffer {
  let bytes = Buffer.from(random.of(seeds), 'latin1');
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    const at = random.below(bytes.length + 1);
    const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
    switch (random.below(5)) {
      case 0:
        bytes = Buffer.concat([before, after.subarray(random.below(16))]);
        break;
      case 1:
        bytes = Buffer.concat([before, Buffer.from(random.of(odd), 'latin1'), after]);
        break;
      case 2:
        bytes = Buffer.concat([before, Buffer.from([random.below(256)]), after.subarray(1)]);
        break;
      case 3:
        bytes = Buffer.concat([bytes, before]);
        break;
      default: {
        // A number by another one.
        const text = bytes.toString('latin1');
        const number = String(random.of([0, 1, 4095, 4096, 2 ** 31, 2 ** 47, 2 ** 53, -4096, random.below(2 ** 30)]));
        bytes = Buffer.from(text.slice(0, at) + text.slice(at).replace(/\d+/, number), 'latin1');
      }
    }
  }
  return bytes.subarray(0, 2 ** 16);
}
