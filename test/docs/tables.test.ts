// Tables that repeat what the code says, compared with it.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { expect, test } from 'vitest';
import { errorCodes } from '../../dist/index.js';
import { Feature, RegisterMode, answerBits } from '../../lib/userfaultfd/features.js';
import { codeRowsOf, read } from './markdown.js';

test('docs/errors.md: the table of codes is errorCodes', () => {
  const rows = codeRowsOf('docs/errors.md').filter(([code]) => code!.startsWith('`ERR_'));
  expect(rows).toEqual(Object.entries(errorCodes).map(([code, meaning]) => [`\`${code}\``, meaning]));
});

test('docs/errors.md: the kinds of Outcome', () => {
  const kinds = codeRowsOf('docs/errors.md').map(([name]) => name!.replaceAll('`', ''));
  expect(kinds).toEqual(expect.arrayContaining(['installed', 'already', 'absent', 'changing', 'partial', 'gone']));
});

test('docs/kernel-support.md: every feature with its bit, every answer, every register mode', () => {
  const rows = codeRowsOf('docs/kernel-support.md');
  const bits = Object.entries(Feature).map(([name, mask]) => [`\`${name}\``, String(mask.toString(2).length - 1)]);
  expect(rows.slice(0, bits.length).map(([name, bit]) => [name, bit])).toEqual(bits);
  for (const name of Object.keys(answerBits)) expect(read('docs/kernel-support.md')).toContain(`\`${name}\``);
  const header = /^\| memory .*$/m.exec(read('docs/kernel-support.md'))![0];
  expect(header.match(/`\w+`/g)).toEqual(Object.keys(RegisterMode).map((name) => `\`${name}\``));
});

test('README.md and docs/kernel-support.md: the tables of memory kinds are those of the code', () => {
  const script = join(import.meta.dirname, '../../scripts/support-table.mjs');
  const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8', timeout: 20_000 });
  expect([status, stderr]).toEqual([0, '']);
});

test.each([
  ['FaultServer.start', 'lib/server/fault-server-options.ts', 'FaultServerOptions'],
  ['HandoffListener', 'lib/transports/handoff-listener.ts', 'ListenerOptions'],
])('docs/architecture.md: the options of %s', (name, path, type) => {
  const sections = read('docs/architecture.md').split(/^### /m);
  const section = sections.find((text) => text.startsWith(`\`${name}\``))!;
  const [, members] = new RegExp(`^export interface ${type} \\{\n(.*?)^\\}`, 'ms').exec(read(path))!;
  const options = Array.from(members!.matchAll(/^ {2}readonly (\w+)/gm), ([, option]) => option);
  expect(Array.from(section.matchAll(/^\| `(\w+)`/gm), ([, option]) => option)).toEqual(options);
});

test('docs/dependencies.md: exactly the dependencies of package.json', () => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
  const named = codeRowsOf('docs/dependencies.md').map(([name]) => name!.replaceAll('`', ''));
  expect(named.sort()).toEqual(Object.keys(dependencies).sort());
});

test('README.md: the versions of Node.js and of the package', () => {
  const { engines, version } = JSON.parse(read('package.json')) as { engines: { node: string }; version: string };
  expect(engines.node).toBe('^20.19.0 || >=22.12.0');
  expect(read('README.md')).toContain('Node.js 20.19 or later of 20, or 22.12 and later.');
  expect(read('README.md')).toContain(`"userfaultfd": "^${version}"`);
  expect(read('CHANGELOG.md')).toContain(`## [${version}]`);
});
