// Memory slots of guest_memfd: KVM_SET_USER_MEMORY_REGION2, and what it refuses.
import { outcomeName } from '../kernel.js';
import { NotThere, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import { GuestMemfdFlags, type SlotParts, VmSubject } from '../vm.js';

const PAGES = 4;
/** The last page that a signed offset reaches. */
const NEAR_OVERFLOW = 2n ** 63n - 4096n;

interface Bound {
  readonly vm: VmSubject;
  readonly fd: number;
  /** Sets a slot of it: the errno, or ok. */
  readonly set: (parts?: Partial<SlotParts>, vm?: VmSubject) => string;
}

function bindable(scene: Scene): Bound {
  const vm = VmSubject.create(scene);
  const fd = vm.guestMemfd(PAGES, GuestMemfdFlags.none);
  const behind = scene.anonymous(PAGES);
  const set = (parts: Partial<SlotParts> = {}, of = vm) =>
    outcomeName(of.setSlot({ pages: PAGES, guestMemfd: fd, ...parts }, behind));
  return { vm, fd, set };
}

/** One with slot 0. @throws NotThere */
function bound(scene: Scene): Bound {
  const made = bindable(scene);
  const seen = made.set();
  if (seen !== 'ok') throw new NotThere({ seen }, 'a memory slot of guest_memfd');
  return made;
}

function binds(id: string, description: string, outcomes: Probe['outcomes'], ask: (scene: Scene) => string): Probe {
  return { id: `gmem.${id}`, description, since: '6.8', needs: ['kvm'], outcomes, ask };
}

export const memorySlots: readonly Probe[] = [
  binds('bind', 'a memory slot takes a guest_memfd', always('ok', '6.8'), (scene) => bindable(scene).set()),
  binds(
    'bindTwice',
    'a part of a guest_memfd that has a slot is refused a second one with EEXIST',
    {
      EEXIST: { result: 'yes', kernels: '7.2 and later' },
      EINVAL: { result: 'differs', kernels: 'before 7.2', means: 'refused all the same' },
    },
    (scene) => bound(scene).set({ slot: 1, address: 2 ** 30 }),
  ),
  binds(
    'bindOverflow',
    'an offset that overflows is refused',
    {
      EINVAL: { result: 'yes', kernels: '7.2 and later' },
      ok: { result: 'differs', kernels: '6.18', means: 'compare offset and size with those of the file yourself' },
    },
    (scene) => bindable(scene).set({ offset: NEAR_OVERFLOW }),
  ),
  binds('bindForeignVm', 'the guest_memfd of another VM is refused', always('EINVAL', '6.8'), (scene) =>
    bindable(scene).set({}, VmSubject.create(scene)),
  ),
  binds('bindDirtyLog', 'a dirty log of such a slot is refused', always('EINVAL', '6.8'), (scene) =>
    bindable(scene).set({ logDirty: true }),
  ),
  binds(
    'slotImmutable',
    'such a slot is not changed, but removed and set anew',
    always('EINVAL, ok, ok', '6.8'),
    (scene) => {
      const { set } = bound(scene);
      const elsewhere = { address: 2 ** 30 };
      return [set(elsewhere), set({ pages: 0 }), set(elsewhere)].join(', ');
    },
  ),
];
