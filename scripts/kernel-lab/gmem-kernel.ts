// Linux 7.3 with userfaultfd on guest_memfd, which no kernel of Debian's has: built from Debian's source, a patch and a
// configuration (gmem/). Its release says what it was built of.
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import type { DebianMirror } from './debian-mirror.js';
import type { Kernel } from './kernel.js';
import { LabError } from './programs.js';
import { requireBuildTools } from './tools.js';
import { type Workspace, assets } from './workspace.js';

const NAME = 'gmem';
const SOURCE = 'linux-source-7.3';
const PATCH = join(assets, 'gmem/guest-memfd-userfaultfd.patch');
const CONFIG = join(assets, 'gmem/lab.config');
/** What is built differently from before, with the same patch and configuration. */
const RECIPE = 1;
/** It takes minutes; on a machine that is busy with something else, an hour. */
const BUILD_MS = 120 * 60_000;
/** Drivers that the configuration leaves out, and that are half of the source. Their Kconfig files must stay. */
const LEFT_OUT = ['drivers/gpu', 'drivers/media', 'sound', 'drivers/net/ethernet', 'drivers/net/wireless'];

export async function gmemKernel(workspace: Workspace, mirror: DebianMirror): Promise<Kernel> {
  const ready = readyGmemKernel(workspace);
  if (ready !== undefined) return ready;
  const folder = workspace.folder('kernels', NAME);
  for (const old of readdirSync(folder)) rmSync(join(folder, old));
  const suffix = suffixOfInputs();
  const image = builtImage(workspace);
  await build({ suffix, image, workspace, mirror });
  return { name: NAME, release: releaseOf(image) ?? `7.3${suffix}`, image, modules: [] };
}

/** The one of UFFD_LAB_IMAGE, or that was built before; of the same patch and configuration. */
export function readyGmemKernel(workspace: Workspace): Kernel | undefined {
  const suffix = suffixOfInputs();
  for (const image of [process.env['UFFD_LAB_IMAGE'], builtImage(workspace)]) {
    if (!image) continue;
    const release = releaseOf(image);
    if (release?.endsWith(suffix) === true) return { name: NAME, release, image, modules: [] };
    if (image !== process.env['UFFD_LAB_IMAGE']) continue;
    const what = release === undefined ? 'is no Linux image' : `is ${release}`;
    workspace.say(`UFFD_LAB_IMAGE ${what}, and not one of 7.3 that ends in ${suffix}: not used`);
  }
  return undefined;
}

function builtImage(workspace: Workspace): string {
  return join(workspace.cache, 'kernels', NAME, `bzImage${suffixOfInputs()}`);
}

/** At the end of the kernel's release. */
function suffixOfInputs(): string {
  const hash = createHash('sha256').update(`${RECIPE}\n`);
  for (const file of [PATCH, CONFIG]) hash.update(readFileSync(file));
  return `-gmem-${hash.digest('hex').slice(0, 12)}`;
}

/** From the header of a bzImage (Documentation/arch/x86/boot.rst: kernel_version). */
function releaseOf(image: string): string | undefined {
  const header = Buffer.alloc(0x8000);
  let fd;
  try {
    fd = openSync(image, 'r');
  } catch {
    return undefined;
  }
  readSync(fd, header, 0, header.length, 0);
  closeSync(fd);
  if (header.toString('latin1', 0x202, 0x206) !== 'HdrS') return undefined;
  const at = header.readUInt16LE(0x20e) + 0x200;
  return /^\S+/.exec(header.toString('latin1', at, at + 128))?.[0];
}

interface Build {
  readonly suffix: string;
  readonly image: string;
  readonly workspace: Workspace;
  readonly mirror: DebianMirror;
}

async function build({ suffix, image, workspace, mirror }: Build): Promise<void> {
  requireBuildTools();
  const work = workspace.folder('work', NAME);
  const source = join(work, 'source');
  if (!existsSync(join(source, '.unpacked'))) await unpackSource(work, source, { workspace, mirror });
  const make = (...args: string[]) =>
    workspace.succeed('make', ['-C', source, `-j${process.env['NPROC'] ?? 2}`, ...makeVariables(suffix), ...args], {
      timeoutMs: BUILD_MS,
    });
  workspace.say('configuring the gmem kernel');
  await make('tinyconfig');
  await workspace.succeed('scripts/kconfig/merge_config.sh', ['-m', '.config', CONFIG], { cwd: source });
  await make('olddefconfig');
  workspace.say('building the gmem kernel (about 6 minutes on 2 CPUs)');
  await make('bzImage');
  copyFileSync(join(source, 'arch/x86/boot/bzImage'), `${image}.new`);
  renameSync(`${image}.new`, image);
  rmSync(work, { recursive: true, force: true });
}

/** Fixed, so that the same inputs give the same image. */
function makeVariables(suffix: string): string[] {
  const compiler = ['ccache'].filter((name) => existsSync(`/usr/bin/${name}`)).map((name) => `CC=${name} gcc`);
  return [
    `LOCALVERSION=${suffix}`,
    'KBUILD_BUILD_TIMESTAMP=2026-01-01',
    'KBUILD_BUILD_USER=lab',
    'KBUILD_BUILD_HOST=lab',
    ...compiler,
  ];
}

async function unpackSource(work: string, source: string, from: { workspace: Workspace; mirror: DebianMirror }) {
  const { workspace, mirror } = from;
  rmSync(work, { recursive: true, force: true });
  const packaged = workspace.folder('work', NAME, 'package');
  await mirror.unpack(SOURCE, packaged);
  const archive = join(packaged, 'usr/src', `${SOURCE}.tar.xz`);
  if (!existsSync(archive)) throw new LabError(`${SOURCE} has no ${SOURCE}.tar.xz in usr/src`);
  workspace.say('unpacking the source of Linux 7.3');
  workspace.folder('work', NAME, 'source');
  const excluded = LEFT_OUT.flatMap((folder) => ['c', 'h', 'S'].map((ending) => `--exclude=*/${folder}/*.${ending}`));
  await workspace.succeed('tar', [
    '--extract',
    '--file',
    archive,
    '--directory',
    source,
    '--strip-components=1',
    ...excluded,
  ]);
  rmSync(packaged, { recursive: true });
  if (readFileSync(join(source, 'virt/kvm/guest_memfd.c'), 'utf8').includes('uffd_ops')) {
    throw new LabError('guest_memfd of this source has userfaultfd itself: the patch of the lab is no longer needed');
  }
  await workspace.succeed('patch', ['--strip=1', '--fuzz=2', '--directory', source, '--input', PATCH]);
  await workspace.succeed('touch', [join(source, '.unpacked')]);
}
