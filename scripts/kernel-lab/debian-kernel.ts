// A kernel of Debian (the cloud flavour), out of its packages: the image, and the few modules that the lab loads.
import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { DebianMirror } from './debian-mirror.js';
import type { Found, Kernel } from './kernel.js';
import { LabError } from './programs.js';
import type { Workspace } from './workspace.js';

interface Context {
  readonly workspace: Workspace;
  readonly mirror: DebianMirror;
  readonly refresh: boolean;
}

/** What is not built in: the disks of the guest, and KVM. TCG emulates AMD's virtualization only. */
const MODULES = ['virtio_pci', 'virtio_blk', 'kvm_amd', 'fuse', 'overlay'];
/** A package without a kernel in it is smaller. */
const REAL_PACKAGE_BYTES = 2 ** 22;
const DESCRIPTION = 'kernel.json';

export async function debianKernel(series: string, context: Context): Promise<Found> {
  const folder = context.workspace.folder('kernels', series);
  const cached = readCached(folder);
  if (cached !== undefined && !context.refresh) return { kernel: cached };
  for (const release of await releasesOf(series, context.mirror)) {
    if (cached?.release === release) return { kernel: cached };
    const packages = await packagesOf(release, context.mirror);
    if (packages !== undefined) return { kernel: await fetchKernel(series, release, packages, context) };
  }
  return cached === undefined ? { absent: `the mirror has no Linux ${series} any more` } : { kernel: cached };
}

function readCached(folder: string): Kernel | undefined {
  const file = join(folder, DESCRIPTION);
  if (!existsSync(file)) return undefined;
  const kernel = JSON.parse(readFileSync(file, 'utf8')) as Kernel;
  return [kernel.image, ...kernel.modules].every((path) => existsSync(path)) ? kernel : undefined;
}

/** Newest first. */
async function releasesOf(series: string, mirror: DebianMirror): Promise<string[]> {
  const quoted = series.replaceAll('.', '\\.');
  const names = await mirror.names(`^linux-image-${quoted}[.+-].*-cloud-amd64$`);
  const parts = (release: string) => release.split(/\D+/).map(Number);
  return names
    .map((name) => name.slice('linux-image-'.length))
    .filter((release) => /^\d+\.\d+[.-]\d/.test(release))
    .sort((a, b) => compareNumbers(parts(b), parts(a)));
}

function compareNumbers(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((number, i) => number !== b[i]);
  return at < 0 ? a.length - b.length : a[at]! - (b[at] ?? 0);
}

/**
 * Up to 6.18 everything is in linux-image; then the image came into linux-binary and the modules into linux-modules. Of
 * kernels that have been replaced the modules go first.
 */
async function packagesOf(release: string, mirror: DebianMirror): Promise<string[] | undefined> {
  const isReal = async (name: string) => (await mirror.size(name)) >= REAL_PACKAGE_BYTES;
  if (await isReal(`linux-image-${release}`)) return [`linux-image-${release}`];
  if (!(await isReal(`linux-modules-${release}`))) return undefined;
  for (const kind of ['linux-binary', 'linux-binary-unsigned']) {
    if (await isReal(`${kind}-${release}`)) return [`${kind}-${release}`, `linux-modules-${release}`];
  }
  return undefined;
}

async function fetchKernel(series: string, release: string, packages: string[], context: Context): Promise<Kernel> {
  const { workspace, mirror } = context;
  const unpacked = mkdtempSync(join(workspace.folder('work'), `${series}-`));
  try {
    for (const name of packages) await mirror.unpack(name, unpacked);
    const made = join(unpacked, 'made');
    workspace.say(`unpacking Linux ${release}`);
    const kernel = await pick(series, release, { unpacked, made, workspace });
    const folder = join(workspace.cache, 'kernels', series);
    rmSync(folder, { recursive: true, force: true });
    // In one step: what is there is whole.
    renameSync(made, folder);
    return kernel;
  } finally {
    rmSync(unpacked, { recursive: true, force: true });
  }
}

interface Unpacked {
  readonly unpacked: string;
  readonly made: string;
  readonly workspace: Workspace;
}

async function pick(series: string, release: string, at: Unpacked): Promise<Kernel> {
  const { unpacked, made, workspace } = at;
  const candidates = [
    `boot/vmlinuz-${release}`,
    `usr/lib/modules/${release}/vmlinuz`,
    `usr/lib/modules/${release}/vmlinuz.unsigned`,
  ].map((path) => join(unpacked, path));
  const image = candidates.find((path) => existsSync(path));
  const modules = ['lib/modules', 'usr/lib/modules']
    .map((path) => join(unpacked, path, release))
    .find((path) => existsSync(join(path, 'kernel')));
  if (image === undefined || modules === undefined) {
    throw new LabError(
      `Linux ${release}: its packages have no ${image === undefined ? 'image' : 'modules'} where expected`,
    );
  }
  const folder = join(workspace.cache, 'kernels', series);
  cpSync(image, join(made, 'vmlinuz'));
  const loaded: string[] = [];
  for (const path of await modulesToLoad(modules, release, workspace)) {
    const plain = `${String(loaded.length).padStart(2, '0')}-${basename(path).replace(/\.xz$/, '')}`;
    cpSync(path, join(made, basename(path)));
    if (path.endsWith('.xz')) await workspace.succeed('xz', ['--decompress', join(made, basename(path))]);
    renameSync(join(made, basename(path).replace(/\.xz$/, '')), join(made, plain));
    loaded.push(join(folder, plain));
  }
  const kernel = { name: series, release, image: join(folder, 'vmlinuz'), modules: loaded };
  writeFileSync(join(made, DESCRIPTION), JSON.stringify(kernel));
  return kernel;
}

/** With what they depend on, that first. */
async function modulesToLoad(modules: string, release: string, workspace: Workspace): Promise<string[]> {
  const base = modules.slice(0, modules.lastIndexOf('lib/modules'));
  await workspace.succeed('/usr/sbin/depmod', ['--basedir', base, release]);
  const dependencies = new Map<string, string[]>();
  for (const line of readFileSync(join(modules, 'modules.dep'), 'utf8').split('\n')) {
    const [path, needs] = line.split(':');
    if (path && needs !== undefined) dependencies.set(path, needs.split(' ').filter(Boolean));
  }
  const nameOf = (path: string) =>
    basename(path)
      .replace(/\.ko(\.xz)?$/, '')
      .replaceAll('-', '_');
  const wanted = MODULES.flatMap((name) => [...dependencies.keys()].filter((path) => nameOf(path) === name));
  // modules.dep has the nearest first: whatever something depends on comes after it.
  const ordered = wanted.flatMap((path) => [...dependencies.get(path)!.slice().reverse(), path]);
  return [...new Set(ordered)].map((path) => join(modules, path));
}

export function debianKernelIsCached(series: string, workspace: Workspace): boolean {
  return readCached(workspace.folder('kernels', series)) !== undefined;
}
