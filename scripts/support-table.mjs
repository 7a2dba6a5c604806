// Writes what each memory kind can be registered for and answered with, from the objects that decide it, and the cases of
// the kernel's own suites, into the documents. `--check` only says whether they are what they would be.
import { readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { format, resolveConfig } from 'prettier';
import { memoryKinds } from '../dist/index.js';
import { kernelSuites, mremapCases } from '../test/conformance/kernel-cases.mjs';

const marks = (name) => [`<!-- ${name}: written by scripts/support-table.mjs -->`, `<!-- end of ${name} -->`];

function cell(support) {
  if ('not' in support) return support.not === 'never' ? 'never' : 'no';
  return support.only === undefined ? support.since : `${support.since}, ${support.only}`;
}

function table(first, names, of) {
  const kinds = Object.values(memoryKinds);
  const lines = [
    `| ${first} | ${names.map((name) => `\`${name}\``).join(' | ')} |`,
    `| --- | ${names.map(() => '---').join(' | ')} |`,
    ...kinds.map((kind) => `| ${kind.description} | ${names.map((name) => cell(of(kind)[name])).join(' | ')} |`),
  ];
  return lines.join('\n');
}

const path = (file) => `[${file}.test.ts](../test/conformance/${file}.test.ts)`;

function casesTable({ cases }) {
  const kinds = (on) => (on.length === 5 ? 'all five' : on[0] === '' ? '' : on.join(', '));
  const rows = cases.map(({ name, on, file }) => `| \`${name}\` | ${kinds(on)} | ${path(file)} |`);
  return ['| case | memory | here |', '| --- | --- | --- |', ...rows].join('\n');
}

/** One row for each memory: a case is a size, with and without being swapped out. */
function mremapTable() {
  const rows = [...new Set(mremapCases.map(({ memory }) => memory))].map((memory) => {
    const of = mremapCases.filter((one) => one.memory === memory);
    const sizes = [...new Set(of.map(({ size }) => `${size / 1024}K`))].join(', ');
    return `| ${memory} | ${sizes} | ${of.some(({ swapout }) => swapout) ? 'both' : 'no'} | ${of.length} |`;
  });
  return ['| memory | folios of | swapped out | cases |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

const suiteTables = Object.fromEntries(
  kernelSuites.map((one) => [one.suite, one.suite === 'uffd-wp-mremap' ? mremapTable() : casesTable(one)]),
);

const { anonymous } = memoryKinds;
const tables = {
  'register modes': table('memory', Object.keys(anonymous.registers), (kind) => kind.registers),
  answers: table('memory', Object.keys(anonymous.answers), (kind) => kind.answers),
  ...suiteTables,
};
const places = {
  'README.md': ['register modes'],
  'docs/kernel-support.md': ['register modes', 'answers'],
  'docs/conformance.md': Object.keys(suiteTables),
};

let stale = false;
for (const [path, names] of Object.entries(places)) {
  const url = new URL(`../${path}`, import.meta.url);
  const before = readFileSync(url, 'utf8');
  let text = before;
  for (const name of names) {
    const [start, end] = marks(name);
    const [from, to] = [text.indexOf(start), text.indexOf(end)];
    if (from < 0 || to < 0) throw new Error(`${path} has no place for the table of ${name}`);
    text = `${text.slice(0, from)}${start}\n\n${tables[name]}\n\n${text.slice(to)}`;
  }
  text = await format(text, { ...(await resolveConfig(url)), parser: 'markdown' });
  if (text === before) continue;
  stale = true;
  if (process.argv.includes('--check')) console.error(`${path}: run node scripts/support-table.mjs`);
  else writeFileSync(url, text);
}
if (stale && process.argv.includes('--check')) process.exitCode = 1;
