// The disk that the guests run from: busybox, node and its libraries, and this checkout with what it was built into.
// Guests write to it as they like: QEMU throws that away.
import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type SanitizerKind, addonOf, buildAddonWith, processEnv } from '../../scripts/sanitizers.mjs';
import { LabError } from './programs.js';
import { type Workspace, assets, projectRoot } from './workspace.js';

/** Of the checkout; node_modules without what only a developer runs. */
const PROJECT = [
  'package.json',
  'vitest.config.ts',
  'tsconfig.json',
  'dist',
  'lib',
  'test',
  'scripts',
  'examples',
  'docs',
];
const DEVELOPERS_ONLY =
  /node_modules\/(typescript|prettier|clang-format|eslint|typedoc|@typescript-eslint|@shikijs|cmake-js|node-gyp|publint)(\/|$)/;
const ADDON = 'build/Release/uffd.node';
/** Compiled here: there is no compiler in the guest. */
const TEST_PROGRAMS = 'build/test-bin';
const PROGRAMS = ['/usr/bin/prlimit', '/usr/bin/setpriv', '/usr/bin/unshare'];
const FREE_BYTES = 256 * 2 ** 20;

/** What `guest/run` looks for, in the checkout: the environment of processes that load the addon. */
const SANITIZER_ENV = 'build/sanitizer.json';
const REPORTS = '/results';

export async function makeGuestDisk(workspace: Workspace, sanitizer?: SanitizerKind): Promise<string> {
  const folder = workspace.folder('work', 'disk');
  const disk = join(workspace.folder('runs'), 'guest.ext4');
  rmSync(folder, { recursive: true, force: true });
  try {
    await fill(folder, workspace, sanitizer);
    const used = await workspace.succeed('du', ['--summarize', '--apparent-size', '--block-size=1', folder]);
    const bytes = Math.ceil(parseInt(used, 10) * 1.15) + FREE_BYTES;
    rmSync(disk, { force: true });
    const options = ['-q', '-t', 'ext4', '-O', '^has_journal', '-N', '60000', '-d', folder];
    await workspace.succeed('/usr/sbin/mke2fs', [...options, disk, `${Math.ceil(bytes / 1024)}k`]);
    return disk;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function fill(folder: string, workspace: Workspace, sanitizer?: SanitizerKind): Promise<void> {
  for (const name of ['proc', 'sys', 'dev', 'tmp', 'run', 'root', 'etc', 'results', 'uffd']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(folder, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(folder, name));
  }
  writeFileSync(join(folder, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n');
  writeFileSync(join(folder, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  writeFileSync(join(folder, 'etc/hosts'), '127.0.0.1 localhost\n::1 localhost\n');
  await addBusybox(folder, workspace);
  cpSync(join(assets, 'guest/run'), join(folder, 'run-tests'));
  for (const program of [process.execPath, ...PROGRAMS]) await addProgram(folder, program, workspace);
  await addProject(folder, workspace, sanitizer);
}

async function addBusybox(folder: string, workspace: Workspace): Promise<void> {
  const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path))!;
  cpSync(busybox, join(folder, 'usr/bin/busybox'));
  const applets = await workspace.succeed(busybox, ['--list']);
  for (const applet of applets.trim().split('\n')) {
    const link = join(folder, 'usr/bin', applet);
    if (applet !== 'busybox' && !existsSync(link)) symlinkSync('busybox', link);
  }
}

/** With the libraries that it loads, where it looks for them. */
async function addProgram(folder: string, program: string, workspace: Workspace): Promise<void> {
  const inGuest = program === process.execPath ? '/usr/bin/node' : program;
  rmSync(join(folder, inGuest), { force: true });
  cpSync(realpathSync(program), join(folder, inGuest));
  await addLibraries(folder, program, workspace);
}

async function addLibraries(folder: string, binary: string, workspace: Workspace): Promise<void> {
  const { stdout } = await workspace.run('ldd', [binary]);
  for (const [, path] of stdout.matchAll(/(?:=> |^\s+)(\/\S+) \(/gm)) {
    const inGuest = join(folder, path!);
    if (existsSync(inGuest)) continue;
    mkdirSync(dirname(inGuest), { recursive: true });
    cpSync(realpathSync(path!), inGuest);
  }
}

async function addProject(folder: string, workspace: Workspace, sanitizer?: SanitizerKind): Promise<void> {
  const inGuest = join(folder, 'uffd');
  for (const name of PROJECT) cpSync(join(projectRoot, name), join(inGuest, name), { recursive: true });
  const options = { recursive: true, verbatimSymlinks: true };
  const filter = (path: string) => !DEVELOPERS_ONLY.test(path);
  cpSync(join(projectRoot, 'node_modules'), join(inGuest, 'node_modules'), { ...options, filter });
  cpSync(join(projectRoot, ADDON), join(inGuest, ADDON));
  if (sanitizer !== undefined) await addSanitized(inGuest, sanitizer);
  await workspace.succeed(process.execPath, [
    join(projectRoot, 'scripts/test-programs.mjs'),
    join(inGuest, TEST_PROGRAMS),
  ]);
  for (const name of readdirSync(join(inGuest, TEST_PROGRAMS))) {
    await addLibraries(folder, join(inGuest, TEST_PROGRAMS, name), workspace);
  }
  const addons = readdirSync(inGuest, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.node'));
  for (const addon of addons) await addLibraries(folder, join(inGuest, addon), workspace);
}

/** A second addon, beside the usual one, which programs without the sanitizer's library go on loading. */
async function addSanitized(inGuest: string, sanitizer: SanitizerKind): Promise<void> {
  await buildAddonWith(sanitizer).catch((error: unknown) => {
    throw new LabError(`the addon was not built with the ${sanitizer} sanitizer: ${(error as Error).message}`);
  });
  const addon = addonOf(sanitizer);
  cpSync(join(projectRoot, addon), join(inGuest, addon));
  const env = await processEnv(sanitizer, { root: '/uffd', reports: REPORTS });
  writeFileSync(join(inGuest, SANITIZER_ENV), JSON.stringify(env));
}
