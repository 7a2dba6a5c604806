// Memfds: seals to the last one, holes, executability, secret memory; and the NUMA policy of mappings.
import { openSync, closeSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { Mapping, Memfd, type RegisterModeName, scanPages } from '../../dist/index.js';
import { PAGE, anonymousMapping, filled, mappingOf, memfdOf, userfaultfd } from '../support/memory.js';
import { lacks, requires } from '../support/requires.js';

beforeEach((context) => {
  requires(context, 'uffd');
});

test('extents: what was written, hole by hole', () => {
  const memfd = memfdOf(8);
  expect([...memfd.extents()]).toEqual([]);
  memfd.write(filled(1), PAGE);
  memfd.write(filled(1, 2 * PAGE), 4 * PAGE);
  const extents = () => [...memfd.extents()].map(({ offset, lengthBytes }) => [offset / PAGE, lengthBytes / PAGE]);
  expect(extents()).toEqual([
    [1, 1],
    [4, 2],
  ]);
  memfd.punchHole(4 * PAGE, PAGE);
  memfd.allocate(7 * PAGE, PAGE);
  // Allocated, not written: it reads as zeroes, as a hole does.
  expect(extents()).toEqual([
    [1, 1],
    [5, 1],
  ]);
});

test('seals: futureWrite leaves what is mapped, and nothing new is mapped to write', async () => {
  const memfd = memfdOf(2);
  const before = mappingOf(memfd);
  memfd.addSeals('grow', 'shrink', 'futureWrite');
  await before.write(0, filled(3, 1));
  expect(() => Mapping.map(memfd)).toThrow(expect.objectContaining({ code: 'EPERM', syscall: 'mmap' }));
  expect(() => memfd.write(filled(1), 0)).toThrow(expect.objectContaining({ code: 'EPERM' }));
  expect(() => {
    memfd.punchHole(0, PAGE);
  }).toThrow(expect.objectContaining({ code: 'EPERM' }));
  expect(() => {
    memfd.resize(PAGE);
  }).toThrow(expect.objectContaining({ code: 'EPERM' }));
  memfd.addSeals('seal');
  expect(memfd.seals()).toEqual(new Set(['seal', 'shrink', 'grow', 'futureWrite']));
  expect(() => {
    memfd.addSeals('write');
  }).toThrow(expect.objectContaining({ code: 'EPERM', syscall: 'F_ADD_SEALS' }));
});

test('noexec seals itself so; exec does not; both contradict each other', (context) => {
  requires(context, 'memfd-noexec');
  using noexec = Memfd.create({ sizeBytes: PAGE, noexec: true });
  expect(noexec.seals()).toEqual(new Set(['exec']));
  using exec = Memfd.create({ sizeBytes: PAGE, exec: true });
  expect(exec.seals()).toEqual(new Set());
  exec.addSeals('exec');
  expect(exec.seals().has('exec')).toBe(true);
  expect(() => Memfd.create({ sizeBytes: PAGE, exec: true, noexec: true })).toThrow(
    expect.objectContaining({ code: 'EINVAL' }),
  );
});

test('secret memory: usable through its mapping, not by descriptor, and not to be served', async (context) => {
  requires(context, 'memfd-secret');
  using memfd = Memfd.createSecret({ sizeBytes: 2 * PAGE });
  const mapping = Mapping.map(memfd);
  await mapping.write(0, filled(7, 1));
  expect((await mapping.read(0, 1))[0]).toBe(7);
  expect(() => memfd.write(filled(1), 0)).toThrow();
  const uffd = userfaultfd();
  for (const modes of [['missing'], ['minor'], ['wp']] as RegisterModeName[][]) {
    expect(() => uffd.register(mapping, modes)).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('memfd_secret') as string }),
    );
  }
  if (!lacks('uffd-wp-async', 'pagemap-scan')) {
    // Its writes can be tracked.
    const tracker = userfaultfd(['wpAsync']);
    tracker.register(mapping, ['wp']);
    const written = () => [...scanPages(mapping, { allOf: ['written'], writeProtect: true })].map((run) => run.offset);
    written();
    await mapping.write(PAGE, filled(8, 1));
    expect(written()).toEqual([PAGE]);
  }
  mapping.unmap();
});

test('a file of a disk: its writes are tracked with wpAsync, its pages are not served', async (context) => {
  requires(context, 'uffd-wp-async', 'pagemap-scan', 'disk');
  const folder = mkdtempSync(join(tmpdir(), 'uffd-file-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
  const path = join(folder, 'data');
  writeFileSync(path, filled(1, 2 * PAGE));
  const fd = openSync(path, 'r+');
  const mapping = Mapping.file(fd, { lengthBytes: 2 * PAGE });
  closeSync(fd);
  expect(() => userfaultfd().register(mapping, ['missing'])).toThrow(
    expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('use a memfd') as string }),
  );
  const uffd = userfaultfd(['wpAsync']);
  const region = uffd.register(mapping, ['wp']);
  expect(uffd.writeProtect({ region, page: 0, pages: 2 }).kind).toBe('installed');
  await mapping.write(PAGE, filled(2, 1));
  expect([...scanPages(mapping, { allOf: ['written'] })].map((run) => run.offset)).toEqual([PAGE]);
  mapping.unmap();
});

test('mbind on a memfd holds for every mapping of it; on private memory for the range', (context) => {
  requires(context, 'numa-policy');
  const memfd = memfdOf(4);
  const [one, other] = [mappingOf(memfd), mappingOf(memfd)];
  expect(one.policyAt(0).mode).toBe('default');
  one.setPolicy({ mode: 'bind', nodes: [0] }, PAGE, PAGE);
  expect(other.policyAt(PAGE)).toEqual({ mode: 'bind', nodes: [0] });
  expect(other.policyAt(0).mode).toBe('default');
  const mapping = anonymousMapping(2);
  mapping.setPolicy({ mode: 'interleave', nodes: [0] }, 0, PAGE);
  expect([mapping.policyAt(0).mode, mapping.policyAt(PAGE).mode]).toEqual(['interleave', 'default']);
  // By the kernel's own name too.
  const told = () =>
    new RegExp(`^${mapping.address.toString(16)} (\\S+)`, 'm').exec(readFileSync('/proc/self/numa_maps', 'utf8'))?.[1];
  expect(told()).toBe('interleave:0');
  mapping.setPolicy({ mode: 'bind', nodes: [0] }, 0, PAGE);
  expect(told()).toBe('bind:0');
  mapping.setPolicy({ mode: 'default' });
  expect(mapping.policyAt(0)).toEqual({ mode: 'default', nodes: [] });
  expect(() => {
    mapping.setPolicy({ mode: 'bind', nodes: [63] });
  }).toThrow(expect.objectContaining({ code: 'EINVAL', syscall: 'mbind' }));
  expect(() => {
    mapping.setPolicy({ mode: 'bind', nodes: [64] });
  }).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
});

test('relocate: the bytes go with it; not while something uses them where they are', async () => {
  const mapping = anonymousMapping(2);
  await mapping.write(PAGE, filled(9, 1));
  const before = mapping.address;
  mapping.relocate();
  expect(mapping.address).not.toBe(before);
  expect((await mapping.read(PAGE, 1))[0]).toBe(9);
  const view = mapping.view();
  expect(() => {
    mapping.relocate();
  }).toThrow(expect.objectContaining({ code: 'EBUSY', syscall: 'mremap' }));
  mapping.detachViews();
  expect(view.byteLength).toBe(0);
  mapping.relocate();
  expect((await mapping.read(PAGE, 1))[0]).toBe(9);
});
