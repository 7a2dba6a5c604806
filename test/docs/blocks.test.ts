// Every block of code in the documents: commands are run, scripts are the tested examples, JSON is JSON.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { describe, expect, test } from 'vitest';
import { Program, installedFolder, root } from '../examples/sandbox.js';
import { requires } from '../support/requires.js';
import { type Block, blocks, documents, read } from './markdown.js';

const ofLanguage = (language: string) => blocks.filter((block) => block.language === language);
const nameOf = ({ document, line, text }: Block) => `${document}:${line}: ${text.split('\n')[0]!}`;

test('only languages that are checked here', () => {
  expect([...new Set(blocks.map(({ language }) => language))].sort()).toEqual(['c', 'js', 'json', 'sh', 'text']);
});

describe('commands', () => {
  test('those that are not run are these, for these reasons', () => {
    const notRun = blocks.filter((block) => block.notRun !== undefined);
    expect(notRun.map(({ document, notRun, text }) => [document, notRun, text.split('\n')[0]])).toEqual([
      [
        'README.md',
        'they set up the clone, and the second one is what runs this',
        expect.stringMatching(/^npm start /) as string,
      ],
      ['README.md', 'changes the host', 'sudo setfacl -m u:alice:rw /dev/userfaultfd'],
      ['README.md', 'changes the host', 'sudo sysctl vm.unprivileged_userfaultfd=1'],
      ['README.md', 'needs a container engine', expect.stringMatching(/^docker run --device/) as string],
      ['README.md', 'needs the registry', 'npm install userfaultfd'],
      [
        'README.md',
        'compiles for a minute; the package check does it',
        'npm explore userfaultfd -- npm run build:addon',
      ],
      ['docs/kernel-lab.md', 'boots virtual machines for minutes', expect.stringMatching(/^npm run lab /) as string],
      [
        'docs/kernel-lab.md',
        'changes the host',
        expect.stringMatching(/^apt-get install .*qemu-system-x86 /) as string,
      ],
      ['docs/kernel-lab.md', 'changes the host', expect.stringMatching(/^apt-get install .*libelf-dev /) as string],
      ['docs/operations.md', 'needs Firecracker', expect.stringMatching(/^uffd serve /) as string],
      ['docs/operations.md', 'needs Firecracker', expect.stringMatching(/^mkdir -p /) as string],
    ]);
  });

  const run = ofLanguage('sh').filter((block) => block.notRun === undefined);

  test.for(run.map((block) => [nameOf(block), block.text] as const))('%s', async ([, text], context) => {
    requires(context, 'uffd', 'uffd-minor', ...(text.includes('uffd vmm') ? (['kvm'] as const) : []));
    const folder = installedFolder();
    const { status, stdout, stderr } = await new Program('bash', ['-eu', '-c', text], folder).ended(25_000);
    expect(status, `${stdout}${stderr}`).toBe(0);
    // Hashes and checksums that are printed twice, by two programs, are the same.
    const sums = stdout
      .match(/^.*\b([0-9a-f]{64}|checksum: [0-9a-f]{16}|\d{5,10} \d{5,})\b/gm)
      ?.map((line) => line.split(/sha256 /).at(-1)!);
    if (/sum snapshot.img|uffd vmm/.test(text)) expect(sums).toHaveLength(2);
    if (sums?.length === 2) expect(sums[0]).toBe(sums[1]);
    expect(readdirSync(folder).filter((name) => name.endsWith('.sock'))).toEqual([]);
  });

  test('every option that is named exists', () => {
    const others = new Set(['--device', '--cap-add', '--user', '--no-install-recommends', '--bind']);
    const uffd = join(root, 'dist/cli/main.js');
    const help = readdirSync(join(root, 'dist/cli/commands'))
      .filter((name) => name.endsWith('.js'))
      .map((name) => spawnSync(process.execPath, [uffd, name.slice(0, -3), '--help'], { encoding: 'utf8' }).stdout);
    const lab = readFileSync(join(root, 'scripts/kernel-lab/main.ts'), 'utf8');
    const options = new Set([...help, lab].join('').match(/--[a-z][a-z-]*/g));
    for (const document of documents) {
      for (const option of read(document).match(/(?<=[\s`(])--[a-z][a-z-]+/g) ?? []) {
        if (!others.has(option)) expect(options, `${document}: ${option}`).toContain(option);
      }
    }
  });
});

describe('scripts', () => {
  const examples = join(root, 'examples');
  const known = readdirSync(examples, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(mjs|c)$/.test(name))
    .map((name) => read(`examples/${name}`));

  test.each([...ofLanguage('js'), ...ofLanguage('c')].map((block) => [nameOf(block), block.text]))(
    '%s is one of the tested examples',
    (_, text) => {
      expect(known).toContain(text);
    },
  );

  test('the example of the README prints what the README says', async (context) => {
    requires(context, 'uffd', 'uffd-minor');
    const folder = installedFolder();
    const inReadme = blocks.filter(({ document }) => document === 'README.md');
    const at = inReadme.findIndex(({ language }) => language === 'js');
    expect(inReadme[at + 1]!.language).toBe('text');
    expect(inReadme[at]!.text.split('\n').length).toBeLessThan(22);
    writeFileSync(join(folder, 'example.mjs'), inReadme[at]!.text);
    const { status, stdout, stderr } = await new Program(process.execPath, ['example.mjs'], folder).ended();
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toBe(inReadme[at + 1]!.text);
  });
});

describe('JSON', () => {
  test.each(ofLanguage('json').map((block) => [nameOf(block), block.text]))('%s', (_, text) => {
    JSON.parse(text);
  });
});

test('every file that is named exists', () => {
  for (const document of documents) {
    for (const [, path] of read(document).matchAll(/`((?:lib|native|docs|examples|test|scripts)\/[\w./-]+)`/g)) {
      expect(existsSync(join(root, path!)), `${document}: ${path}`).toBe(true);
    }
  }
});
