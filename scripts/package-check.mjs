// Is what would be published complete, and does it work where there is no compiler? One line per check.

import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { symbolsTooNew } from './check-glibc.mjs';
import { CheckFailed, inTemporaryFolder, install, succeed } from './package-check/install.mjs';
import { makePrebuild } from './prebuilds.mjs';
import { root } from './setup/steps.mjs';

const nodeMajors = [22, 24, 26];
const platform = `linux-${process.arch}`;
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const mustHave = [
  'LICENSE',
  'binding.gyp',
  'dist/cli/main.js',
  'dist/index.d.ts',
  'dist/index.js',
  'scripts/build-addon.mjs',
  `prebuilds/${platform}/uffd.node`,
];
const mustNotHave = /^(\.ci|build|lib|node_modules|test)\/|\.uffd-setup\.json$/;

await inTemporaryFolder(checkPackage).catch((error) => {
  if (!(error instanceof CheckFailed)) throw error;
  console.error(error.message);
  process.exitCode = 1;
});

async function checkPackage(folder) {
  await check('the prebuilt binary needs no newer glibc than Node 20', binaryRunsAnywhere);
  const { tarball, files } = await check('npm pack', () => pack(folder));
  await check(`content, ${files.length} files`, () => contentIsRight(files));
  await check('publint', () => lint(tarball));
  await check('installs without scripts', () => install(folder, tarball));
  const npx = (...args) => succeed('npx', ['uffd', ...args], { cwd: folder });
  await check(`serves faults on Node ${process.version}`, () => servesFaults(npx, folder));
  for (const major of nodeMajors) await checkOnNode(major, folder);
  await check('compiles from source where it is installed', () => compiles(folder));
}

// The binary lies outside the folder under test, whose node_modules is the user's.
async function checkOnNode(major, folder) {
  await inTemporaryFolder(async (elsewhere) => {
    await check(`installs Node ${major}`, () => install(elsewhere, `node-${platform}@${major}`));
    const node = join(elsewhere, `node_modules/node-${platform}/bin/node`);
    chmodSync(node, 0o755);
    const uffd = join(folder, 'node_modules/.bin/uffd');
    const run = (...args) => succeed(node, [uffd, ...args], { cwd: folder });
    await check(`serves faults on Node ${major}`, () => servesFaults(run, folder));
  });
}

async function check(what, work) {
  const start = performance.now();
  try {
    const result = await work();
    console.log(`ok      ${what} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
    return result;
  } catch (error) {
    console.log(`not ok  ${what}`);
    throw error;
  }
}

function expect(condition, message) {
  if (!condition) throw new CheckFailed(message);
}

async function binaryRunsAnywhere() {
  const found = await symbolsTooNew(await makePrebuild());
  expect(found.length === 0, `symbols that older hosts do not have: ${found.join(', ')}`);
}

async function pack(folder) {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const [{ filename, files }] = JSON.parse(await succeed('npm', args, { cwd: root }));
  return { tarball: join(folder, filename), files: files.map(({ path }) => path) };
}

function contentIsRight(files) {
  const missing = mustHave.filter((path) => !files.includes(path));
  expect(missing.length === 0, `the package lacks ${missing.join(', ')}`);
  const stray = files.filter((path) => mustNotHave.test(path));
  expect(stray.length === 0, `the package must not have ${stray.join(', ')}`);
}

function lint(tarball) {
  const publint = join(root, 'node_modules/publint/src/cli.js');
  return succeed(process.execPath, [publint, tarball, '--strict']);
}

async function servesFaults(uffd, folder) {
  const said = await uffd('--version');
  expect(said.includes(version), `uffd --version says ${said}`);
  const image = join(folder, 'image.bin');
  writeFileSync(image, Buffer.alloc(64 * 4096, 'uffd'));
  const report = JSON.parse(await uffd('demo', image, '--json'));
  expect(report.ok === true, `the demonstration says ${JSON.stringify(report)}`);
}

// What the documentation tells those whom the prebuilt binary does not fit; npm brings its own node-gyp.
async function compiles(folder) {
  const args = ['explore', 'userfaultfd', '--', 'npm', 'run', 'build:addon'];
  await succeed('npm', args, { cwd: folder, timeoutMs: 5 * 60_000 });
}
