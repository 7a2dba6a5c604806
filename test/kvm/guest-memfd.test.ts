// guest_memfd: the kernel's own test list (create, size, map, punch, SIGBUS, bind), with each set of flags.
import { fstatSync, ftruncateSync, readFileSync, readSync, writeSync } from 'node:fs';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type GuestMemfd, type GuestMemfdFlagName, Mapping, MemoryFaultError, Userfaultfd } from '../../dist/index.js';
import { deadline } from '../support/deadline.js';
import { PAGE, anonymousMapping, filled, nextFault, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { openDescriptors } from '../support/resources.js';
import { DATA, GUEST_BYTES, HLT, guestOf, load, load64, newVm, runTo, vcpuAtCode } from './support.js';
import { GuestMemfdFlag } from '../../dist/kvm/guest-memfd.js';
import { pageTables } from '../../dist/vmm/long-mode.js';
import { Layout } from '../../dist/vmm/guest-program.js';

const PAGES = 8;
const SIZE = PAGES * PAGE;
const errorWith = (code: string) => expect.objectContaining({ code }) as Error;

function guestMemfd(flags: readonly GuestMemfdFlagName[], sizeBytes = SIZE, vm = newVm()): GuestMemfd {
  const file = vm.createGuestMemfd({ sizeBytes, flags });
  onTestFinished(() => {
    file.close();
  });
  return file;
}

function mapped(file: GuestMemfd, options?: Parameters<GuestMemfd['map']>[0]) {
  const mapping = file.map(options);
  onTestFinished(() => {
    mapping.unmap();
  });
  return mapping;
}

beforeEach((context) => {
  requires(context, 'kvm', 'guest-memfd');
});

const flagSets: GuestMemfdFlagName[][] = [[], ['mmap'], ['mmap', 'initShared'], ['initShared']];

describe.each(flagSets.map((flags) => [flags.join(', ') || 'none', flags] as const))('with flags: %s', (_, flags) => {
  test('has its size, its own inode, and is closed on exec', () => {
    const vm = newVm();
    const [one, two] = [guestMemfd(flags, SIZE, vm), guestMemfd(flags, 2 * SIZE, vm)];
    expect([one.sizeBytes, two.sizeBytes]).toEqual([SIZE, 2 * SIZE]);
    expect(fstatSync(one.fd)).toMatchObject({ size: SIZE, blksize: PAGE });
    expect(fstatSync(two.fd)).toMatchObject({ size: 2 * SIZE });
    for (const { fd } of [one, two]) {
      const openFlags = parseInt(/^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!, 8);
      expect(openFlags & 0o2000000).not.toBe(0);
    }
    expect(fstatSync(one.fd).ino).not.toBe(fstatSync(two.fd).ino);
    expect([...one.flags]).toEqual(flags);
  });

  test('a size that is not whole pages is refused', () => {
    const vm = newVm();
    for (const sizeBytes of [0, -PAGE, 1, PAGE + 1, PAGE / 2, NaN, 2 ** 60]) {
      expect(() => vm.createGuestMemfd({ sizeBytes, flags })).toThrow(errorWith('ERR_OUT_OF_RANGE'));
    }
  });

  test('cannot be read, written or resized', () => {
    const { fd } = guestMemfd(flags);
    const bytes = Buffer.alloc(8);
    for (const position of [0, null]) {
      expect(() => readSync(fd, bytes, 0, 8, position)).toThrow(/^(ESPIPE|EINVAL|EBADF)/);
      expect(() => writeSync(fd, bytes, 0, 8, position)).toThrow(/^(ESPIPE|EINVAL|EBADF)/);
    }
    for (const size of [0, PAGE, 2 * SIZE]) {
      expect(() => {
        ftruncateSync(fd, size);
      }).toThrow(/^EINVAL/);
    }
    expect(fstatSync(fd).size).toBe(SIZE);
  });

  test('memory is allocated and freed in whole pages', () => {
    const file = guestMemfd(flags);
    expect(file.allocatedBytes).toBe(0);
    file.allocate(0, SIZE);
    file.allocate(PAGE, PAGE);
    file.punchHole(0, PAGE);
    file.punchHole(SIZE, PAGE);
    file.punchHole(SIZE - PAGE, 2 * PAGE);
    for (const [offset, length] of [
      [0, PAGE - 1],
      [1, PAGE],
      [0, 0],
      [SIZE, PAGE],
      [SIZE - PAGE, 2 * PAGE],
    ] as const) {
      expect(() => {
        file.allocate(offset, length);
      }, `allocate ${offset} ${length}`).toThrow(errorWith('EINVAL'));
    }
    for (const [offset, length] of [
      [0, PAGE - 1],
      [1, PAGE],
      [1, PAGE - 1],
    ] as const) {
      expect(() => {
        file.punchHole(offset, length);
      }, `punch ${offset} ${length}`).toThrow(errorWith('EINVAL'));
    }
  });

  test('is bound to a slot inside its size only', () => {
    const vm = newVm();
    const file = guestMemfd(flags, SIZE, vm);
    const mapping = anonymousMapping(PAGES);
    const slot = { slot: 0, address: 0, lengthBytes: SIZE, mapping, guestMemfd: { file, offset: 0 } };
    for (const offset of [PAGE, SIZE, -PAGE, 1, Number.MAX_SAFE_INTEGER, 2 ** 53 - PAGE]) {
      expect(() => {
        vm.setMemory({ ...slot, guestMemfd: { file, offset } });
      }, `offset ${offset}`).toThrow(errorWith('ERR_OUT_OF_RANGE'));
    }
    for (const flag of [{ logDirty: true }, { readonly: true }]) {
      expect(() => {
        vm.setMemory({ ...slot, ...flag });
      }).toThrow(/^EINVAL: .*neither read-only nor logged/);
    }
    vm.setMemory(slot);
    // The same part of the file twice: EINVAL up to 7.1, EEXIST from 7.2 on.
    expect(() => {
      vm.setMemory({ ...slot, slot: 1, address: 2 * SIZE });
    }).toThrow(/^(EINVAL|EEXIST): .*bound once/);
    // Nothing of it changes while it is there.
    expect(() => {
      vm.setMemory({ ...slot, address: 4 * SIZE });
    }).toThrow(/^EINVAL: .*removed and set anew/);
    vm.removeMemory(0);
    vm.setMemory({ ...slot, address: 4 * SIZE });
  });

  test("is of its VM: another's slot does not take it", () => {
    const file = guestMemfd(flags);
    const mapping = anonymousMapping(PAGES);
    expect(() => {
      newVm().setMemory({ slot: 0, address: 0, lengthBytes: SIZE, mapping, guestMemfd: { file, offset: 0 } });
    }).toThrow(/^EINVAL: .*its file is of this VM/);
  });
});

test.each([[[]], [['initShared']]] as GuestMemfdFlagName[][][])(
  'without the flag it cannot be mapped, and says why: %j',
  (flags) => {
    expect(() => guestMemfd(flags).map()).toThrow(/^ENODEV: .*created without the flag mmap/);
  },
);

test('each flag is there exactly where the capability says so', () => {
  const vm = newVm();
  const offered = vm.capability('guestMemfdFlags');
  for (const [flag, bit] of Object.entries(GuestMemfdFlag)) {
    const create = () => guestMemfd([flag as GuestMemfdFlagName], SIZE, vm);
    if ((offered & bit) !== 0) expect(create().flags.has(flag as GuestMemfdFlagName)).toBe(true);
    else expect(create).toThrow(/^EINVAL: .*has not all of these flags/);
  }
});

describe('mapped and shared', () => {
  const both: GuestMemfdFlagName[] = ['mmap', 'initShared'];

  test('a punched page is zero again, the others are as they were', async () => {
    const file = guestMemfd(both);
    const mapping = mapped(file);
    await mapping.write(0, filled(0xaa, SIZE));
    expect(file.allocatedBytes).toBeGreaterThanOrEqual(0);
    file.punchHole(0, PAGE);
    expect(await mapping.read(0, PAGE)).toEqual(filled(0));
    expect(await mapping.read(PAGE, SIZE - PAGE)).toEqual(filled(0xaa, SIZE - PAGE));
    await mapping.write(0, filled(0xbb));
    expect(await mapping.read(0, PAGE)).toEqual(filled(0xbb));
  });

  test('a private mapping is refused', () => {
    const file = guestMemfd(both);
    expect(() => Mapping.map(file, { shared: false })).toThrow(errorWith('EINVAL'));
  });

  test('a page of it can be populated before it is touched', async () => {
    const file = guestMemfd(both);
    const mapping = mapped(file);
    mapping.populate('write');
    expect(await mapping.read(0, SIZE)).toEqual(filled(0, SIZE));
  });

  test('a NUMA policy is kept with the memory, or said to be ignored', (context) => {
    requires(context, 'numa-policy');
    const file = guestMemfd(both);
    const policies = [
      { mode: 'interleave', nodes: [0] },
      { mode: 'bind', nodes: [0] },
    ] as const;
    for (const policy of policies) {
      let kept = true;
      try {
        file.setPolicy(policy, PAGE, PAGE);
      } catch (error) {
        // Before Linux 6.19 mbind(2) succeeds, and nothing comes of it.
        expect(error).toMatchObject({ code: 'ERR_GUEST_MEMFD_POLICY' });
        kept = false;
      }
      const after = mapped(file);
      expect([after.policyAt(0), after.policyAt(PAGE)]).toEqual([
        { mode: 'default', nodes: [] },
        kept ? policy : { mode: 'default', nodes: [] },
      ]);
    }
    file.setPolicy({ mode: 'default' });
    expect(mapped(file).policyAt(PAGE).mode).toBe('default');
    expect(() => {
      file.setPolicy({ mode: 'bind', nodes: [63] });
    }).toThrow(errorWith('EINVAL'));
    expect(() => {
      guestMemfd([]).setPolicy({ mode: 'bind', nodes: [0] });
    }).toThrow(errorWith('ENODEV'));
  });

  test('two mappings are the same memory, and outlive the descriptor', async () => {
    const file = guestMemfd(both);
    const [one, two] = [mapped(file), mapped(file, { offset: PAGE, lengthBytes: PAGE })];
    file.close();
    expect(() => file.fd).toThrow(errorWith('ERR_CLOSED'));
    await one.write(PAGE, filled(7));
    expect(await two.read(0, PAGE)).toEqual(filled(7));
  });

  test('beyond the end: SIGBUS, and what is before it stays', async () => {
    const file = guestMemfd(both);
    const mapping = mapped(file, { lengthBytes: 2 * SIZE });
    await mapping.write(0, filled(0xcc, SIZE));
    const beyond = mapping.read(SIZE, 1, { signal: deadline() });
    await expect(beyond).rejects.toThrow(MemoryFaultError);
    await expect(beyond).rejects.toMatchObject({ signal: 'SIGBUS', page: PAGES });
    expect(await mapping.read(0, SIZE)).toEqual(filled(0xcc, SIZE));
  });

  test('advice: huge pages are only a wish, collapsing is refused, dropping keeps the content', async () => {
    const mapping = mapped(guestMemfd(both));
    await mapping.write(0, filled(5, SIZE));
    mapping.advise('hugePage');
    expect(() => {
      mapping.advise('collapse');
    }).toThrow(errorWith('EINVAL'));
    mapping.advise('dontNeed');
    expect(await mapping.read(0, SIZE)).toEqual(filled(5, SIZE));
  });
});

test('private memory can be mapped, but every touch is SIGBUS', async () => {
  const mapping = mapped(guestMemfd(['mmap']));
  for (let at = 0; at < SIZE; at += PAGE) {
    const touched = mapping.read(at, 1, { signal: deadline() });
    await expect(touched).rejects.toMatchObject({ signal: 'SIGBUS', siCode: 2 });
  }
});

describe('with userfaultfd', () => {
  test.each([[['missing']], [['minor']], [['missing', 'minor']]] as const)('%j: registered, or why not', (modes) => {
    const file = guestMemfd(['mmap', 'initShared']);
    const mapping = mapped(file);
    using uffd = Userfaultfd.open({ userModeOnly: true });
    try {
      const region = file.register(uffd, mapping, [...modes]);
      expect(region.pages).toBe(PAGES);
    } catch (error) {
      expect(error).toMatchObject({
        code: 'ERR_GUEST_MEMFD_REGISTRATION',
        message: expect.stringMatching(/mainline up to 7\.3 cannot.*use a memfd/) as string,
        cause: { code: 'EINVAL', syscall: 'UFFDIO_REGISTER' },
      });
    }
  });

  test('of a private one', () => {
    const file = guestMemfd(['mmap']);
    const mapping = mapped(file);
    using uffd = Userfaultfd.open({ userModeOnly: true });
    expect(() => file.register(uffd, mapping, ['missing'])).toThrow(/without the flag initShared/);
  });
});

describe('as the memory of a guest', () => {
  /** A slot of it alone at 4 GiB, beside ordinary memory with the code, which copies a word from its first page to its second. */
  async function copyingGuest(bound: boolean) {
    const high = 2 ** 32;
    const far = (address: number) => [...Buffer.from(BigUint64Array.of(BigInt(address)).buffer)];
    // movabs rax, [high]; movabs [high + PAGE], rax
    const code = [0x48, 0xa1, ...far(high), 0x48, 0xa3, ...far(high + PAGE), ...HLT];
    const { vm, vcpu, mapping: low } = await guestOf(code);
    await low.write(Layout.pageTables, pageTables(high + 2 ** 30));
    const file = guestMemfd(['mmap', 'initShared'], SIZE, vm);
    const mapping = mapped(file);
    const guestMemfdOf = bound ? { guestMemfd: { file, offset: 0 } } : {};
    vm.setMemory({ slot: 1, address: high, lengthBytes: SIZE, mapping, ...guestMemfdOf });
    return { vcpu, file, mapping };
  }

  test.each([
    ['a plain slot over its mapping', false],
    ['a slot of guest_memfd', true],
  ])('%s: the guest sees what the host wrote, and the other way round', async (_, bound) => {
    const { vcpu, mapping } = await copyingGuest(bound);
    await mapping.write(0, Buffer.from('from host'));
    await runTo(vcpu, 'hlt');
    expect(await mapping.read(PAGE, 8)).toEqual(Buffer.from('from hos'));
  });

  test('registered, a plain slot: accesses of the guest are faults of the mapping', async (context) => {
    requires(context, 'guest-memfd-uffd');
    const { vcpu, file, mapping } = await copyingGuest(false);
    const uffd = userfaultfd();
    file.register(uffd, mapping, ['missing']);
    const running = runTo(vcpu, 'hlt');
    for (const page of [0, 1]) {
      const fault = await nextFault(uffd);
      expect(fault).toMatchObject({ page, reason: 'missing' });
      uffd.copy(fault, filled(page + 3));
    }
    await running;
    expect(await mapping.read(PAGE, 8)).toEqual(filled(3, 8));
  });

  test('registered, a slot of guest_memfd: the guest reads zeroes, and no fault is told', async (context) => {
    requires(context, 'guest-memfd-uffd');
    const { vcpu, file, mapping } = await copyingGuest(true);
    const uffd = userfaultfd();
    file.register(uffd, mapping, ['missing', 'minor']);
    await runTo(vcpu, 'hlt');
    expect(vcpu.registers.rax).toBe(0n);
    expect(uffd.queue).toEqual({ pending: 0, total: 0 });
    // The page it has touched is in the file now, and not in the host's page table.
    const reading = mapping.read(PAGE, 8, { signal: deadline() });
    const fault = await nextFault(uffd);
    expect(fault).toMatchObject({ page: 1, reason: 'minor' });
    uffd.continue(fault);
    expect(await reading).toEqual(filled(0, 8));
  });

  test('all of it: page tables and code too', async () => {
    const vm = newVm();
    const file = guestMemfd(['mmap', 'initShared'], GUEST_BYTES, vm);
    const mapping = mapped(file);
    await load(mapping, [...load64(DATA), ...HLT]);
    await mapping.write(DATA, Buffer.from('guestmem'));
    vm.setMemory({ slot: 0, address: 0, lengthBytes: GUEST_BYTES, mapping, guestMemfd: { file, offset: 0 } });
    const vcpu = vcpuAtCode(vm);
    await runTo(vcpu, 'hlt');
    expect(vcpu.registers.rax).toBe(Buffer.from('guestmem').readBigUInt64LE());
  });
});

test('closed in any order, nothing stays open', async () => {
  const before = openDescriptors('kvm-gmem');
  for (const first of ['file', 'vm'] as const) {
    const vm = newVm();
    const file = vm.createGuestMemfd({ sizeBytes: SIZE });
    expect(openDescriptors('kvm-gmem')).toBe(before + 1);
    if (first === 'vm') await vm.close();
    file.close();
    file.close();
    await vm.close();
    expect(openDescriptors('kvm-gmem')).toBe(before);
  }
});
