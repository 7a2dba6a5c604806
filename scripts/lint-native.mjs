// What eslint cannot see: which headers native/os may include, and that both builds compile the same files.

import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';

const root = dirname(import.meta.dirname);
const read = (path) => readFileSync(join(root, path), 'utf8');

// native/os is tested, fuzzed and read without Node.
function nodeHeadersInOs() {
  return readdirSync(join(root, 'native/os'), { recursive: true })
    .map((name) => join('native/os', name))
    .filter((path) => /\.(h|cc)$/.test(path))
    .filter((path) => /^\s*#\s*include\s*[<"](napi|uv|node_api|js_native_api|node)\.h[>"]/m.test(read(path)))
    .map((path) => `${path}: includes a header of Node`);
}

function differingSources() {
  const gyp = gypSources();
  const cmake = cmakeSources();
  const only = (these, those) => [...these].filter((source) => !those.has(source));
  return [
    ...only(gyp, cmake).map((source) => `${source}: in binding.gyp, not in CMakeLists.txt`),
    ...only(cmake, gyp).map((source) => `${source}: in CMakeLists.txt, not in binding.gyp`),
  ];
}

// A .gyp file is a Python literal, not JSON: its list is cut out, its strings are picked up.
function gypSources() {
  const list = /["']sources["']\s*:\s*\[([^\]]*)\]/.exec(read('binding.gyp'));
  if (!list) throw new Error('binding.gyp has no "sources"');
  return sourcesIn(list[1].replace(/#.*/g, ''));
}

function cmakeSources() {
  const list = /set\s*\(\s*UFFD_SOURCES\s([^)]*)\)/.exec(read('CMakeLists.txt'));
  if (!list) throw new Error('CMakeLists.txt has no set(UFFD_SOURCES ...)');
  return sourcesIn(list[1].replace(/#.*/g, ''));
}

function sourcesIn(text) {
  return new Set(text.match(/[\w./-]+\.(cc|c|S)\b/g) ?? []);
}

const findings = [...nodeHeadersInOs(), ...differingSources()];
for (const finding of findings) console.error(finding);
process.exitCode = findings.length > 0 ? 1 : 0;
