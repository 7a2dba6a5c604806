// The programs of the machine that the lab needs. Installing them is all that needs root.
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { LabError } from './programs.js';

/** By the Debian package that has them. */
const running = {
  'busybox-static': ['busybox'],
  cpio: ['cpio'],
  e2fsprogs: ['mke2fs'],
  kmod: ['depmod'],
  'qemu-system-x86': ['qemu-system-x86_64'],
  'util-linux': ['setpriv'],
  'xz-utils': ['xz'],
  zstd: ['zstd'],
};

const building = {
  bc: ['bc'],
  bison: ['bison'],
  flex: ['flex'],
  'g++': ['g++'],
  make: ['make'],
  patch: ['patch'],
};

/** Libraries have no program to look for: a header. */
const headers = { 'libelf-dev': '/usr/include/libelf.h', 'libssl-dev': '/usr/include/openssl/opensslv.h' };

/** @throws LabError that says what to install */
export function requireTools(): void {
  refuse(missingFrom(running), 'The kernel lab');
}

/** @throws LabError that says what to install */
export function requireBuildTools(): void {
  const libraries = Object.entries(headers).filter(([, header]) => !readable(header));
  refuse([...missingFrom(building), ...libraries.map(([name]) => name)], 'Building the gmem kernel');
}

function missingFrom(packages: Record<string, string[]>): string[] {
  const lacks = (program: string) => !searchPath().some((folder) => readable(join(folder, program)));
  return Object.keys(packages).filter((name) => packages[name]!.some(lacks));
}

// Of an ordinary user it lacks the folders where depmod and mke2fs are.
function searchPath(): string[] {
  return [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
}

function readable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function refuse(packages: readonly string[], who: string): void {
  if (packages.length === 0) return;
  const names = packages.join(' ');
  throw new LabError(`${who} needs more programs: apt-get install --no-install-recommends ${names}`);
}
