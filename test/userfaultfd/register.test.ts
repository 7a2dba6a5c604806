import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { Mapping, type RegisterModeName, Userfaultfd } from '../../dist/index.js';
import { deadline, within } from '../support/deadline.js';
import {
  PAGE,
  anonymousMapping,
  filled,
  mappingOf,
  memfdOf,
  nextEvent,
  nextFault,
  registeredAnonymous,
  registeredMemfd,
  userfaultfd,
} from '../support/memory.js';
import { duplicate } from '../support/native.js';
import { lacks, requires } from '../support/requires.js';

beforeEach((context) => {
  requires(context, 'uffd-minor');
});

const memory = {
  anonymous: () => anonymousMapping(4),
  'shared anonymous': () => anonymousMapping(4, { shared: true }),
  memfd: () => mappingOf(memfdOf(4)),
  'private memfd': () => mappingOf(memfdOf(4), { shared: false }),
};

// reference: register.ioctls, anonymous MISSING 0x13c, shmem MINOR 0x1bc; with WP 0x40 more. `move` is listed for shmem
// though it always fails there.
test.each<[keyof typeof memory, RegisterModeName[], string]>([
  ['anonymous', ['missing'], 'wake copy zeropage move poison'],
  ['anonymous', ['missing', 'wp'], 'wake copy zeropage move writeprotect poison'],
  ['shared anonymous', ['minor'], 'wake copy zeropage move continue poison'],
  ['memfd', ['minor'], 'wake copy zeropage move continue poison'],
  ['memfd', ['missing', 'minor', 'wp'], 'wake copy zeropage move writeprotect continue poison'],
  ['private memfd', ['missing', 'minor'], 'wake copy zeropage move continue poison'],
])('%s with %j takes: %s', (kind, modes, answers) => {
  const mapping = memory[kind]();
  const region = userfaultfd().register(mapping, modes);
  const known = (answer: string) =>
    !(['poison', 'move'] as const).some((name) => name === answer && lacks(`uffd-${name}`));
  expect([...region.answers].join(' ')).toBe(answers.split(' ').filter(known).join(' '));
  expect(region).toMatchObject({ start: mapping.address, lengthBytes: 4 * PAGE, pages: 4, pageSize: PAGE, mapping });
});

test.each<[string, () => Mapping, RegisterModeName[], string]>([
  ['anonymous memory has no minor faults', memory.anonymous, ['minor'], 'EINVAL'],
  ['no mode', memory.memfd, [], 'EINVAL'],
])('%s: %s', (_, make, modes, code) => {
  const uffd = userfaultfd();
  const error = expect.objectContaining({ code, syscall: 'UFFDIO_REGISTER' }) as Error;
  expect(() => uffd.register(make(), modes)).toThrow(error);
});

test('a file that is not memory is EINVAL', (context) => {
  requires(context, 'disk');
  const memfd = memfdOf(1);
  const text = readFileSync('/proc/self/maps', 'utf8');
  // The program itself: a private mapping of a regular file.
  const [start = '', end = ''] = (/^([0-9a-f]+)-([0-9a-f]+) .* \/\S*node/m.exec(text) ?? []).slice(1);
  const range = { start: BigInt(`0x${start}`), lengthBytes: Number(BigInt(`0x${end}`) - BigInt(`0x${start}`)) };
  const uffd = userfaultfd();
  expect(() => uffd.register(range, ['missing'])).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(() => uffd.register({ start: 0n, lengthBytes: PAGE }, ['missing'])).toThrow(
    expect.objectContaining({ code: 'EINVAL' }),
  );
  expect(() => uffd.register({ start: BigInt(memfd.fd), lengthBytes: PAGE }, ['missing'])).toThrow(
    expect.objectContaining({ code: 'EINVAL' }),
  );
});

test('shared memory that can never be written is EPERM', () => {
  const memfd = memfdOf(1);
  memfd.addSeals('futureWrite');
  const mapping = mappingOf(memfd, { protection: 'read' });
  expect(() => userfaultfd().register(mapping, ['missing'])).toThrow(expect.objectContaining({ code: 'EPERM' }));
});

test('a second userfaultfd is EBUSY until the first lets go', () => {
  const { mapping, uffd } = registeredMemfd(1);
  const second = userfaultfd();
  expect(() => second.register(mapping, ['missing'])).toThrow(expect.objectContaining({ code: 'EBUSY', errno: -16 }));
  uffd.unregister(mapping);
  expect(second.register(mapping, ['missing']).answers).toContain('copy');
});

test('a range by its address', async () => {
  const mapping = anonymousMapping(4);
  const uffd = userfaultfd();
  const range = { start: mapping.address + BigInt(PAGE), lengthBytes: 2 * PAGE };
  const region = uffd.register(range, ['missing']);
  expect(region).toMatchObject({ start: range.start, pages: 2, mapping: undefined });
  await mapping.touch(0, 1, { signal: deadline() });
  const reading = mapping.read(2 * PAGE, 1, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault).toMatchObject({ region, page: 1 });
  uffd.copy(fault, filled('r'));
  expect((await reading).toString()).toBe('r');
  uffd.unregister(range);
  await mapping.touch(0, 4 * PAGE, { signal: deadline() });
});

test('several regions of one userfaultfd are told apart', async () => {
  const uffd = userfaultfd();
  const mappings = Array.from({ length: 5 }, () => anonymousMapping(2));
  const regions = mappings.map((mapping) => uffd.register(mapping, ['missing']));
  for (const [index, mapping] of mappings.entries()) {
    const touching = mapping.touch(PAGE, 1, { signal: deadline() });
    const fault = await nextFault(uffd);
    expect(fault.region).toBe(regions[index]);
    expect(fault.page).toBe(1);
    uffd.zeropage(fault);
    await touching;
  }
});

test('minor alone: holes are filled silently', async () => {
  const { memfd, mapping, uffd } = registeredMemfd(2, { modes: ['minor'] });
  memfd.write(filled('m'), PAGE);
  expect(await mapping.read(0, 1, { signal: deadline() })).toEqual(filled(0, 1));
  const reading = mapping.read(PAGE, 1, { signal: deadline() });
  uffd.continue(await nextFault(uffd));
  expect((await reading).toString()).toBe('m');
});

test('a private mapping of a memfd: continue maps the page, a write copies it', async () => {
  const { memfd, mapping, uffd } = registeredMemfd(1, { map: { shared: false } });
  memfd.write(filled('m'), 0);
  const writing = mapping.write(0, filled('p', 1), { signal: deadline() });
  expect(uffd.continue(await nextFault(uffd)).kind).toBe('installed');
  await writing;
  expect((await mapping.read(0, 2, { signal: deadline() })).toString()).toBe('pm');
  expect((await mappingOf(memfd).read(0, 2)).toString()).toBe('mm');
});

test.each(['missing', 'minor'] as const)('unregister wakes those who wait for a %s fault', async (reason) => {
  const { memfd, mapping, uffd } = registeredMemfd(1);
  if (reason === 'minor') memfd.write(filled(0), 0);
  const reading = mapping.read(0, 1, { signal: deadline() });
  expect((await nextFault(uffd)).reason).toBe(reason);
  uffd.unregister(mapping);
  expect(await within(reading, 'the read', 1000)).toEqual(filled(0, 1));
});

test('unregister of a range that this object has not registered wakes those who wait there all the same', async () => {
  const { memfd, mapping, uffd } = registeredMemfd(1);
  memfd.write(filled('m'), 0);
  using other = Userfaultfd.adopt(duplicate(uffd.fd));
  const reading = mapping.read(0, 1, { signal: deadline() });
  expect((await nextFault(uffd)).reason).toBe('minor');
  other.unregister({ start: mapping.address, lengthBytes: PAGE });
  expect((await within(reading, 'the read', 1000)).toString()).toBe('m');
});

test("a userfaultfd that cannot be adopted stays the caller's", () => {
  const script = join(import.meta.dirname, 'adopting-without-files.mjs');
  const limited = 'ulimit -n 200; exec "$0" --expose-gc "$1"';
  const { stdout } = spawnSync('sh', ['-c', limited, process.execPath, script], { encoding: 'utf8' });
  expect(stdout).toBe('EMFILE anon_inode:[userfaultfd]\n');
});

test('close wakes everybody, who read zeroes', async () => {
  const { mapping, uffd } = registeredAnonymous(2);
  const signal = deadline();
  const reading = Promise.all([mapping.read(0, 1, { signal }), mapping.read(PAGE, 1, { signal })]);
  await nextFault(uffd);
  uffd.close();
  expect(await within(reading, 'the reads', 1000)).toEqual([filled(0, 1), filled(0, 1)]);
});

test('threadId: the thread that faulted, one of this process and not the main one', async () => {
  const { mapping, uffd } = registeredAnonymous(1, ['threadId']);
  const touching = mapping.touch(0, 1, { signal: deadline() });
  const { threadId } = await nextFault(uffd);
  expect(threadId).not.toBe(process.pid);
  expect(readFileSync(`/proc/self/task/${threadId}/status`, 'utf8')).toMatch(/^Name:/);
  uffd.close();
  await touching;
});

test('exactAddress: the byte that was touched, and still its page', async (context) => {
  requires(context, 'uffd-exact-address');
  const { mapping, uffd } = registeredAnonymous(4, ['exactAddress']);
  const reading = mapping.read(2 * PAGE + 123, 1, { signal: deadline() });
  const fault = await nextFault(uffd);
  expect(fault.address).toBe(mapping.address + BigInt(2 * PAGE + 123));
  expect(fault.page).toBe(2);
  expect(uffd.copy(fault, filled('e'))).toEqual({ kind: 'installed', bytes: PAGE });
  expect((await reading).toString()).toBe('e');
});

test('wp: a page copied write-protected reports the first write', async () => {
  const mapping = anonymousMapping(1);
  const uffd = userfaultfd(['pagefaultFlagWp']);
  const region = uffd.register(mapping, ['missing', 'wp']);
  uffd.copy({ region, page: 0 }, filled('w'), { writeProtect: true });
  expect((await mapping.read(0, 1, { signal: deadline() })).toString()).toBe('w');
  const writing = mapping.write(0, filled('!', 1), { signal: deadline() });
  expect(await nextFault(uffd)).toMatchObject({ reason: 'wp', write: true, page: 0 });
  uffd.unregister(mapping);
  await within(writing, 'the write', 1000);
});

test('eventUnmap: a munmap by this thread while it iterates is refused', async () => {
  const { mapping, uffd } = registeredAnonymous(1, ['eventUnmap']);
  const iterating = nextEvent(uffd).catch((error: unknown) => error);
  await delay(10);
  expect(() => {
    mapping.unmap();
  }).toThrow(expect.objectContaining({ code: 'ERR_WOULD_DEADLOCK' }));
  expect(mapping.unmapped).toBe(false);
  uffd.close();
  await iterating;
  mapping.unmap();
});
