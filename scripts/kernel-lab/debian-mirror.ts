// Packages of Debian releases other than the machine's own, from the mirror that the machine's apt is set up for, with
// an apt of our own in the cache: what the machine has installed, and its lists, stay as they are.
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LabError } from './programs.js';
import type { Workspace } from './workspace.js';

const SUITES = ['bookworm', 'bookworm-backports', 'trixie', 'trixie-backports', 'sid'];
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';
const FETCH_MS = 5 * 60_000;

export class DebianMirror {
  readonly #workspace: Workspace;
  readonly #root: string;
  #updated: Promise<void> | undefined;

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
    this.#root = workspace.folder('apt');
  }

  /** Names of packages that match (an extended regular expression). */
  async names(pattern: string): Promise<string[]> {
    await this.#update();
    const found = await this.#apt('apt-cache', ['search', '--names-only', pattern]);
    return [...found.matchAll(/^(\S+) - /gm)].map(([, name]) => name!);
  }

  /** Bytes of the newest version of a package; 0 when there is none. */
  async size(name: string): Promise<number> {
    const { status, stdout } = await this.#workspace.run(
      'apt-cache',
      ['show', '--no-all-versions', name],
      this.#options(),
    );
    return status === 0 ? Number(/^Size: (\d+)$/m.exec(stdout)?.[1] ?? 0) : 0;
  }

  /** Downloads a package (newest version, or that of a suite) and unpacks it into the folder. */
  async unpack(name: string, folder: string, suite?: string): Promise<void> {
    const file = await this.#download(name, suite);
    await this.#workspace.succeed('dpkg-deb', ['--extract', file, folder], { timeoutMs: FETCH_MS });
    rmSync(file);
  }

  async #download(name: string, suite?: string): Promise<string> {
    await this.#update();
    // Packages are unpacked once, and what is kept of them is kept elsewhere.
    const folder = this.#workspace.folder('apt', 'downloads', name);
    this.#workspace.say(`fetching ${name}`);
    const which = suite === undefined ? name : `${name}/${suite}`;
    await this.#apt('apt-get', ['download', which], folder);
    const file = readdirSync(folder).find((found) => found.endsWith('.deb'));
    if (file === undefined) throw new LabError(`apt-get download ${which} left no package`);
    return join(folder, file);
  }

  #update(): Promise<void> {
    return (this.#updated ??= this.#updateOnce());
  }

  async #updateOnce(): Promise<void> {
    this.#workspace.say('reading the package lists of Debian');
    for (const folder of ['state/lists/partial', 'cache/archives/partial']) this.#workspace.folder('apt', folder);
    writeFileSync(join(this.#root, 'status'), '');
    writeFileSync(join(this.#root, 'sources.list'), sourcesList());
    const configuration = join(this.#root, 'apt.conf');
    writeFileSync(`${configuration}.new`, this.#configuration());
    renameSync(`${configuration}.new`, configuration);
    await this.#apt('apt-get', ['update']);
  }

  #apt(program: string, args: readonly string[], cwd?: string): Promise<string> {
    return this.#workspace.succeed(program, args, { ...this.#options(), ...(cwd !== undefined && { cwd }) });
  }

  // For these programs only: whoever else ran with it would install from here.
  #options() {
    return { env: { APT_CONFIG: join(this.#root, 'apt.conf'), LC_ALL: 'C' }, timeoutMs: FETCH_MS };
  }

  #configuration(): string {
    const at = (name: string) => JSON.stringify(join(this.#root, name));
    return [
      `Dir::State ${at('state')};`,
      `Dir::State::status ${at('status')};`,
      `Dir::Cache ${at('cache')};`,
      `Dir::Etc::SourceList ${at('sources.list')};`,
      'Dir::Etc::SourceParts "/dev/null";',
      'Dir::Etc::Preferences "/dev/null";',
      'Dir::Etc::PreferencesParts "/dev/null";',
      // As root it would download as a user who may not look into the cache.
      'APT::Sandbox::User "";',
      'Acquire::Languages "none";',
      'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";',
      '',
    ].join('\n');
  }
}

function sourcesList(): string {
  const { main, security } = machineMirrors();
  const signed = existsSync(KEYS) ? ` [signed-by=${KEYS}]` : '';
  const lines = SUITES.map((suite) => `deb${signed} ${main} ${suite} main`);
  if (security !== undefined) lines.push(`deb${signed} ${security} bookworm-security main`);
  return `${lines.join('\n')}\n`;
}

/** The mirrors in the machine's own sources: whichever of them has a Debian release, and its security updates. */
function machineMirrors(): { main: string; security: string | undefined } {
  const uris = [
    ...new Set(sourceFiles().flatMap((text) => [...text.matchAll(/https?:\/\/[^\s\]]+/g)].map(([uri]) => uri))),
  ];
  const trimmed = uris.map((uri) => uri.replace(/\/$/, ''));
  const main = trimmed.find((uri) => uri.endsWith('/debian'));
  if (main === undefined) {
    throw new LabError('No mirror of Debian in /etc/apt: the kernel lab takes its kernels from the one that apt uses.');
  }
  return { main, security: trimmed.find((uri) => uri.endsWith('/debian-security')) };
}

/** Without comments: an address there need not answer. */
function sourceFiles(): string[] {
  const parts = '/etc/apt/sources.list.d';
  const files = existsSync(parts) ? readdirSync(parts).map((name) => join(parts, name)) : [];
  return ['/etc/apt/sources.list', ...files.filter((path) => /\.(list|sources)$/.test(path))]
    .filter((path) => existsSync(path))
    .map((path) => readFileSync(path, 'utf8').replace(/#.*$/gm, ''));
}
