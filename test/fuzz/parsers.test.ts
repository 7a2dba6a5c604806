// Every parser of what comes from outside, with inputs that are almost right: a result of the right shape, or the error
// it documents. Every run of the tests asks the same; UFFD_FUZZ_SECONDS=600 asks something new, for so long, and prints the
// seed; UFFD_FUZZ_SEED=N repeats one.
import { describe, expect, it } from 'vitest';
import { UffdError } from '../../dist/index.js';
import { parseWorkingSet } from '../../dist/sources/working-set-file.js';
import { cloneMemoryOf, parseClone } from '../../dist/transports/clones.js';
import { parseHandshake } from '../../dist/transports/dialects.js';
import { HandshakeCollector } from '../../dist/transports/handshake.js';
import { checkMappings, type WireMapping } from '../../dist/transports/mappings.js';
import { parseFdinfo } from '../../dist/userfaultfd/fdinfo.js';
import { Random, mutated, seed } from './mutations.js';
import { fdinfos, handshakes, smaps, workingSets } from './seeds.js';

const PAGE = 4096;
const SOURCE_BYTES = 2 ** 32;
const seconds = Number(process.env['UFFD_FUZZ_SECONDS'] ?? 1);

/** Mappings that passed every check are ones that can be served. */
function checkedMappings(mappings: readonly WireMapping[]): void {
  const page = checkMappings(mappings, SOURCE_BYTES, PAGE);
  for (const { base_host_virt_addr, size, offset, page_size } of mappings) {
    for (const value of [base_host_virt_addr, size, offset]) expect(value % page).toBe(0);
    expect([page_size === page, size > 0, offset + size <= SOURCE_BYTES, base_host_virt_addr > 0]).not.toContain(false);
  }
}

interface Target {
  readonly name: string;
  readonly seeds: readonly string[];
  readonly parse: (bytes: Buffer, random: Random) => void;
  readonly codes: readonly string[];
}

const targets: readonly Target[] = [
  {
    name: 'handshakes of one descriptor and of two',
    seeds: handshakes,
    parse: (bytes, random) => {
      checkedMappings(parseHandshake(bytes.toString(), 1 + random.below(2), PAGE).mappings);
    },
    codes: ['ERR_HANDOFF_REFUSED'],
  },
  {
    name: 'answers of clones',
    seeds: handshakes,
    parse: (bytes) => {
      checkedMappings(parseClone(bytes.toString()).mappings);
    },
    codes: ['ERR_HANDOFF_REFUSED'],
  },
  {
    name: 'handshakes in pieces',
    seeds: handshakes,
    parse: (bytes, random) => {
      const collector = new HandshakeCollector([]);
      for (let at = 0; at < bytes.length;) {
        const end = at + 1 + random.below(64);
        const chunk = { bytes: bytes.subarray(at, end), descriptors: [], controlTruncated: false };
        if (collector.take(chunk) === 'complete') break;
        at = end;
      }
      expect(bytes.toString().startsWith(collector.text.slice(0, -4))).toBe(true);
    },
    codes: ['ERR_HANDOFF_REFUSED'],
  },
  {
    name: 'working sets',
    seeds: workingSets,
    parse: (bytes) => {
      const { workingSet, snapshot } = parseWorkingSet(bytes.toString(), 'set');
      let end = 0;
      for (let i = 0; i < workingSet.extents.length; i += 2) {
        expect(workingSet.extents[i]).toBeGreaterThanOrEqual(end);
        end = workingSet.extents[i]! + workingSet.extents[i + 1]!;
      }
      expect(end).toBeLessThanOrEqual(Math.ceil(snapshot.sizeBytes / workingSet.pageSize));
    },
    codes: ['ERR_RECORD_REFUSED'],
  },
  {
    name: 'what the kernel says of mappings',
    seeds: smaps,
    parse: (bytes) => {
      const told = cloneMemoryOf(bytes.toString('latin1'), [{ start: 0n, size: 2 ** 48 }]);
      for (const value of Object.values(told ?? {})) expect(Number.isFinite(value)).toBe(true);
    },
    codes: [],
  },
  {
    name: 'what the kernel says of a userfaultfd',
    seeds: fdinfos,
    parse: (bytes) => {
      const { apiDone, features, pending, total } = parseFdinfo(bytes.toString('latin1'));
      expect(Number.isSafeInteger(pending) && Number.isSafeInteger(total)).toBe(true);
      // Only a whole line of the kernel's says that UFFDIO_API is done, and it says with what.
      const lines = bytes.toString('latin1').split(/[\n\r\u2028\u2029]/);
      const line = `API:aa:${(features | (apiDone ? 1n << 31n : 0n)).toString(16)}:`;
      const said = lines.map((one) => one.replace(/^API:[\t ]*aa:0*(?=[0-9a-f]+:)/, 'API:aa:'));
      if (apiDone || features > 0n) expect(said.some((one) => one.startsWith(line))).toBe(true);
      else expect(features).toBe(0n);
    },
    codes: [],
  },
];

describe(`seed ${seed}`, () => {
  it.each(targets)('$name', { timeout: seconds * 1000 + 10_000 }, ({ seeds, parse, codes }) => {
    const random = new Random(seed);
    const until = performance.now() + seconds * 1000;
    let accepted = 0;
    let inputs = 0;
    for (; performance.now() < until || inputs < 1000; inputs++) {
      const bytes = mutated(random, seeds);
      try {
        parse(bytes, random);
        accepted++;
      } catch (error) {
        const code = error instanceof UffdError ? error.code : 'none';
        if (!codes.includes(code)) throw new Error(JSON.stringify(bytes.toString('latin1')), { cause: error });
      }
    }
    // The mutations stay near what is right: some of it still is.
    expect(accepted).toBeGreaterThan(inputs / 200);
  });
});
