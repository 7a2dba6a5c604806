// Fails when a binary needs more of its host than the oldest distributions the prebuilt addon is for: RHEL 9 (glibc
// 2.34, libstdc++ of GCC 11), Ubuntu 22.04, Debian 12. Reaching further back (Node.js 20 runs on 2.28) would take
// versioned symbols by hand, or a build host of that age; there, the addon is built from source.

import process from 'node:process';
import { runChild } from './child.mjs';
import { isMain } from './is-main.mjs';
import { makePrebuild } from './prebuilds.mjs';

const newest = { GLIBC: [2, 34, 0], GLIBCXX: [3, 4, 29], CXXABI: [1, 3, 13] };

/** Resolves to the symbols that some supported host does not have, as `name (VERSION)`. */
export async function symbolsTooNew(binary) {
  const { status, output } = await runChild('objdump', ['-T', binary]);
  if (status !== 0) throw new Error(`objdump failed:\n${output}`);
  return undefinedSymbols(output)
    .filter(({ version }) => isTooNew(version))
    .map(describe);
}

// 0000000000000000      DF *UND*  0000000000000000 (GLIBC_2.34) pthread_create
function undefinedSymbols(table) {
  const lines = table.matchAll(/\*UND\*\s+[0-9a-f]+\s+\(?([A-Z]+_[\w.]+)\)?\s+(\S+)/g);
  return [...lines].map(([, version, name]) => ({ version, name }));
}

function isTooNew(version) {
  const [, library, ...parts] = /^([A-Z]+)_(\d+)(?:\.(\d+))?(?:\.(\d+))?/.exec(version) ?? [];
  const limit = newest[library];
  if (!limit) return false;
  const numbers = parts.map((part) => Number(part ?? 0));
  const at = numbers.findIndex((number, i) => number !== limit[i]);
  return at >= 0 && numbers[at] > limit[at];
}

const describe = ({ name, version }) => `${name} (${version})`;

if (isMain(import.meta)) {
  const found = await symbolsTooNew(process.argv[2] ?? (await makePrebuild()));
  for (const symbol of found) console.error(`newer than the oldest supported host has: ${symbol}`);
  process.exitCode = found.length > 0 ? 1 : 0;
}
