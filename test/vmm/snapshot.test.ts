// Snapshots on disk: written so that a crash cannot spoil them, and refused when they are not what was written.
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { Mapping } from '../../dist/index.js';
import { type Manifest, manifestText } from '../../dist/vmm/manifest.js';
import { checkUnchanged } from '../../dist/vmm/memory-file.js';
import { loadMemory, openSnapshot, writeSnapshot } from '../../dist/vmm/snapshot.js';
import { temporaryFolder } from '../e2e/support.js';
import { PAGE, anonymousMapping, filled } from '../support/memory.js';

const PAGES = 2048;
const root = temporaryFolder();
let folder: string;
let count = 0;

const rest = {
  format: 'uffd-vmm-snapshot',
  version: 1,
  architecture: 'x64',
  work: { start: 0, end: PAGE, strideBytes: 8 },
  vcpus: [{ id: 0, registers: 'AAAA', specialRegisters: '', fpu: '', events: '', mpState: '', msrs: [[1, '2']] }],
} as const satisfies object;

/** Two pages that are not zero, 4 MiB apart, and one at the end. */
async function memory(seed: number): Promise<Mapping> {
  const mapping = anonymousMapping(PAGES);
  for (const page of [1, 1025, PAGES - 1]) await mapping.write(page * PAGE, filled(seed + page));
  return mapping;
}

async function write(seed = 5) {
  return writeSnapshot(folder, await memory(seed), rest as never);
}

function memoryFile(): string {
  return join(
    folder,
    readdirSync(folder).find((name) => name.startsWith('memory-'))!,
  );
}

/** Changes the manifest; `rehash` as somebody would who knows the format. */
function changeManifest(change: (manifest: Manifest & Record<string, unknown>) => void, rehash: boolean): void {
  const path = join(folder, 'manifest.json');
  const file = JSON.parse(readFileSync(path, 'utf8')) as { manifest: Manifest & Record<string, unknown> };
  change(file.manifest);
  writeFileSync(path, rehash ? manifestText(file.manifest) : JSON.stringify(file));
}

const refused = async (reason: RegExp) => {
  await expect(openSnapshot(folder)).rejects.toThrow(
    expect.objectContaining({
      code: 'ERR_SNAPSHOT_INVALID',
      message: expect.stringMatching(reason) as string,
    }) as Error,
  );
};

beforeEach(() => {
  folder = join(root, `snapshot-${count++}`);
});

test('what is written is read back; holes stay holes', async () => {
  const { writtenBytes } = await write();
  expect(writtenBytes).toBe(3 * PAGE);
  expect(statSync(memoryFile())).toMatchObject({ size: PAGES * PAGE });
  expect(statSync(memoryFile()).blocks * 512).toBeLessThan(64 * PAGE);
  const snapshot = await openSnapshot(folder);
  const { manifest, hashed } = snapshot;
  expect(hashed).toBe(false);
  expect(manifest).toMatchObject(rest);
  const mapping = anonymousMapping(PAGES);
  await loadMemory(snapshot, mapping);
  for (const page of [0, 1, 1025, PAGES - 1]) {
    expect(await mapping.read(page * PAGE, PAGE)).toEqual(filled([1, 1025, PAGES - 1].includes(page) ? 5 + page : 0));
  }
});

test('a second one replaces the first, whole', async () => {
  await write(1);
  const first = memoryFile();
  await write(2);
  expect(existsSync(first)).toBe(false);
  expect(readdirSync(folder)).toHaveLength(2);
  expect((await openSnapshot(folder)).memoryPath).toBe(memoryFile());
});

test('what a crash leaves behind does not matter: the old one is still there', async () => {
  await write();
  const left = join(folder, `memory-${'0'.repeat(16)}`);
  writeFileSync(left, 'half of it');
  writeFileSync(join(folder, 'manifest.json.new'), '{"manifest":');
  expect((await openSnapshot(folder)).memoryPath).not.toBe(left);
  await write(2);
  expect(readdirSync(folder).sort()).toEqual(['manifest.json', expect.stringMatching(/^memory-/)]);
});

test('a folder with something else in it is left alone', async () => {
  mkdirSync(folder);
  writeFileSync(join(folder, 'thesis.txt'), 'important');
  await expect(write()).rejects.toThrow(/has something else in it \(thesis\.txt\)/);
  expect(readdirSync(folder)).toEqual(['thesis.txt']);
});

test('a copy is hashed, and good; so is one that was only touched', async () => {
  await write();
  const copy = `${folder}-copy`;
  cpSync(folder, copy, { recursive: true });
  expect((await openSnapshot(copy)).hashed).toBe(true);
  utimesSync(memoryFile(), 1, 1);
  expect((await openSnapshot(folder)).hashed).toBe(true);
});

describe('refused', () => {
  beforeEach(async () => {
    await write();
  });

  test('one byte of the memory is another, at the same size', async () => {
    const bytes = readFileSync(memoryFile());
    bytes[5000]! ^= 1;
    writeFileSync(memoryFile(), bytes);
    await refused(/its memory is corrupt/);
  });

  test('... even with the old times put back', async () => {
    const { atime, mtime } = statSync(memoryFile());
    const bytes = readFileSync(memoryFile());
    bytes[0] = 1;
    writeFileSync(memoryFile(), bytes);
    utimesSync(memoryFile(), atime, mtime);
    await refused(/its memory is corrupt/);
  });

  test('the memory file is another one of the same size', async () => {
    const path = memoryFile();
    copyFileSync(path, `${path}.old`);
    rmSync(path);
    writeFileSync(path, Buffer.alloc(PAGES * PAGE, 3));
    await refused(/its memory is corrupt/);
  });

  test('the memory is truncated, longer, or not there', async () => {
    const path = memoryFile();
    truncateSync(path, PAGES * PAGE - 1);
    await refused(/8388607 bytes instead of 8388608: truncated/);
    appendFileSync(path, 'xx');
    await refused(/8388609 bytes instead of/);
    rmSync(path);
    await refused(/ENOENT/);
  });

  test('there is no manifest', async () => {
    rmSync(join(folder, 'manifest.json'));
    await refused(/ENOENT.*was not finished/);
  });

  test('half of a manifest, none of ours, an empty one', async () => {
    const path = join(folder, 'manifest.json');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.slice(0, text.length / 2));
    await refused(/not JSON/);
    for (const other of ['{}', 'null', '[]', '7', '{"manifest":null}', '{"manifest":{"format":"tar"}}']) {
      writeFileSync(path, other);
      await refused(/not one of a snapshot/);
    }
    writeFileSync(path, '');
    await refused(/not JSON/);
  });

  test('the manifest was changed', async () => {
    changeManifest((manifest) => (manifest.work.strideBytes = 16), false);
    await refused(/its manifest has been changed/);
  });

  test('a version that is not ours, and says which', async () => {
    changeManifest((manifest) => Object.assign(manifest, { version: 2 }), true);
    await refused(/version 2, this program reads version 1/);
  });

  test.each<[string, object, RegExp]>([
    ['another machine', { architecture: 'arm64' }, /architecture/],
    ['no vCPU', { vcpus: [] }, /vcpus/],
    ['a state that is no base64', { vcpus: [{ ...rest.vcpus[0], fpu: '!' }] }, /vcpus\.0\.fpu/],
    ['a size that is none', { memory: { file: 'memory-1', sizeBytes: -1, sha256: '', identity: {} } }, /memory/],
  ])('%s, though its hash is right', async (_, change, reason) => {
    changeManifest((manifest) => Object.assign(manifest, change), true);
    await refused(reason);
  });

  test('a memory file outside the folder', async () => {
    changeManifest((manifest) => (manifest.memory.file = '../../etc/passwd'), true);
    await refused(/has no such name/);
  });
});

test('written to after it had been checked: not a page of it is shown', async () => {
  await write();
  const snapshot = await openSnapshot(folder);
  appendFileSync(memoryFile(), 'x');
  const changed = { code: 'ERR_SOURCE_CHANGED' };
  await expect(loadMemory(snapshot, anonymousMapping(PAGES))).rejects.toMatchObject(changed);
  expect(() => {
    checkUnchanged(snapshot);
  }).toThrow(expect.objectContaining(changed) as Error);
});

test('stopped while it is written, or hashed: the old one stays, nothing is left', async () => {
  await write();
  const before = readdirSync(folder).sort();
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(writeSnapshot(folder, await memory(6), rest as never, signal)).rejects.toThrow('enough');
  expect(readdirSync(folder).sort()).toEqual(before);
  await expect(openSnapshot(folder, { verify: true, signal })).rejects.toThrow('enough');
  expect((await openSnapshot(folder)).hashed).toBe(false);
});

test('verify: hashed though nobody has written to it', async () => {
  await write();
  expect((await openSnapshot(folder, { verify: true })).hashed).toBe(true);
});
