// On the kernel whose behaviour is known in every detail: probe by probe the answer that it must give.
import { release } from 'node:os';
import process from 'node:process';
import { beforeAll, expect, test } from 'vitest';
import { memoryKinds, probe } from '../../dist/index.js';
import type { ProbeReport } from '../../dist/index.js';
import { areas } from '../../dist/probe/areas/areas.js';
import { requires } from '../support/requires.js';
import { builtWithOrWithout, emulatedOrNot, expected, ofTheHost } from './expected-6.18.js';
import { skipWithoutHardware } from './hardware.js';

const ids = areas.flatMap(({ probes }) => probes.map(({ id }) => id));
const known = release().startsWith('6.18.');
let report: ProbeReport | undefined;
let registering: ProbeReport | undefined;

beforeAll(async () => {
  registering = await probe({ only: 'reg.*' });
  if (known && process.getuid?.() === 0) report = await probe();
});

test('every probe is in the table', () => {
  const tables = [expected, emulatedOrNot, builtWithOrWithout].flatMap((table) => Object.keys(table));
  expect([...tables, ...ofTheHost].sort()).toEqual([...ids].sort());
});

test.for(Object.entries(expected))('%s', ([id, [result, seen]], context) => {
  if (!known) context.skip(`the table is of Linux 6.18, this is ${release()}`);
  requires(context, 'root', 'uffd', 'hugetlb-2M');
  const entry = report?.probes.find((one) => one.id === id);
  if (entry?.blocker === 'device node') context.skip(`kvm: ${entry.remedy}`);
  skipWithoutHardware(id, context);
  if (entry?.result === 'skipped') context.skip(entry.meaning);
  expect([entry?.result, entry?.evidence.seen]).toEqual([result, seen]);
});

test.for(Object.entries(builtWithOrWithout))('%s', ([id, either], context) => {
  if (!known) context.skip(`the table is of Linux 6.18, this is ${release()}`);
  requires(context, 'root', 'uffd', 'hugetlb-2M');
  const entry = report?.probes.find((one) => one.id === id);
  expect(either).toContainEqual([entry?.result, entry?.evidence.seen]);
});

test.for(Object.entries(emulatedOrNot))('%s', ([id, [emulated, onProcessor]], context) => {
  if (!known) context.skip(`the table is of Linux 6.18, this is ${release()}`);
  requires(context, 'root', 'uffd', 'kvm', 'guest-memfd');
  const found = (wanted: string) => report?.probes.find((one) => one.id === wanted);
  const isEmulated = found('kvm.emulated')?.result === 'yes';
  expect([found(id)?.result, found(id)?.evidence.seen]).toEqual(isEmulated ? emulated : onProcessor);
});

test('the ioctls that each kind of memory takes', (context) => {
  if (!known) context.skip(`the table is of Linux 6.18, this is ${release()}`);
  requires(context, 'root', 'uffd', 'hugetlb-2M');
  const masks = Object.fromEntries(
    (report?.probes ?? []).flatMap(({ id, evidence }) =>
      evidence['ioctls'] === undefined ? [] : [[id, evidence['ioctls']]],
    ),
  );
  expect(masks).toMatchObject({
    'uffd.api': '0x8000000000000003',
    'reg.anon.missing': '0x13c',
    'reg.anon.wp': '0x17c',
    'reg.shmem.minor': '0x1bc',
    'reg.hugetlb2m.missing': '0x10c',
    'reg.hugetlb2m.minor': '0x18c',
  });
});

/** Versions such as 6.18, compared. */
function isOlder(one: string, other: string): boolean {
  const [[major, minor], [ofMajor, ofMinor]] = [one, other].map((text) => text.split('.').map(Number)) as [
    [number, number],
    [number, number],
  ];
  return major < ofMajor || (major === ofMajor && minor < ofMinor);
}

/** On every kernel: what README.md says that each can register. */
const kindsOf = { anon: 'anonymous', shmem: 'shmem', memfdPrivate: 'memfd-private', hugetlb2m: 'hugetlb' } as const;
const table = Object.entries(kindsOf).flatMap(([name, kind]) =>
  Object.entries(memoryKinds[kind].registers).map(([mode, support]) => [`reg.${name}.${mode}`, support] as const),
);

test.for(table)('the support table and this kernel: %s', ([id, support], context) => {
  requires(context, 'uffd', 'hugetlb-2M');
  const entry = registering?.probes.find((one) => one.id === id);
  const there = 'since' in support && !isOlder(release(), support.since);
  expect(entry?.result).toBe(there ? 'yes' : 'no');
});

test('those that belong to the host have an answer that is known', () => {
  for (const entry of report?.probes ?? []) {
    if (ofTheHost.includes(entry.id)) expect(['yes', 'no', 'skipped'], entry.id).toContain(entry.result);
  }
});
