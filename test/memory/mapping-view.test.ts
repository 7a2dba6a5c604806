import { expect, test } from 'vitest';
import { Mapping } from '../../dist/index.js';
import { PAGE, filled, mappingOf, memfdOf, registeredMemfd, userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';
import { collectUntil, mappingsOf } from '../support/resources.js';

test('a view is the memory itself', async () => {
  const memfd = memfdOf(2);
  const mapping = mappingOf(memfd);
  const bytes = new Uint8Array(mapping.view(PAGE));
  expect(bytes.length).toBe(PAGE);
  memfd.write(filled(7, 10), PAGE);
  expect(bytes[9]).toBe(7);
  bytes[10] = 8;
  expect(await mapping.read(PAGE + 10, 1)).toEqual(filled(8, 1));
});

test('two views of the same bytes, and an empty one', () => {
  const mapping = mappingOf(memfdOf(1));
  const [one, other] = [new Uint8Array(mapping.view()), new Uint8Array(mapping.view())];
  one[5] = 5;
  expect(other[5]).toBe(5);
  expect(mapping.view(PAGE, 0).byteLength).toBe(0);
});

test('a registered mapping gives no view, once unregistered it does', (context) => {
  requires(context, 'uffd-minor');
  const { mapping, uffd } = registeredMemfd(1);
  expect(() => mapping.view()).toThrow(expect.objectContaining({ code: 'ERR_MAPPING_REGISTERED' }));
  uffd.unregister(mapping);
  expect(mapping.view().byteLength).toBe(PAGE);
});

test('closing the userfaultfd ends the registration too', (context) => {
  requires(context, 'uffd-minor');
  const { mapping, uffd } = registeredMemfd(1);
  uffd.close();
  expect(mapping.view().byteLength).toBe(PAGE);
});

test('a failed registration leaves the mapping free for views', (context) => {
  requires(context, 'uffd-minor');
  const { mapping } = registeredMemfd(1);
  const other = userfaultfd();
  expect(() => other.register(mapping, ['missing'])).toThrow(expect.objectContaining({ code: 'EBUSY' }));
  const free = mappingOf(memfdOf(1), { protection: 'read' });
  expect(() => other.register(free, [])).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  expect(free.view().byteLength).toBe(PAGE);
});

test('a viewed mapping cannot be registered', (context) => {
  requires(context, 'uffd-minor');
  const mapping = mappingOf(memfdOf(1));
  mapping.view();
  expect(() => userfaultfd().register(mapping, ['missing'])).toThrow(
    expect.objectContaining({ code: 'ERR_MAPPING_VIEWED' }),
  );
});

test('a view keeps its pages mapped after unmap, until it is collected', async () => {
  const name = 'view-lifetime';
  const memfd = memfdOf(4, name);
  // In a function of its own: no frame that lives on may hold the view.
  const use = () => {
    const mapping = Mapping.map(memfd);
    const bytes = new Uint8Array(mapping.view());
    mapping.unmap();
    bytes[3 * PAGE] = 9;
    expect(mappingsOf(name)).toBe(1);
    expect(bytes[3 * PAGE]).toBe(9);
  };
  use();
  expect(await collectUntil(() => mappingsOf(name) === 0)).toBe(true);
});

test('a view that was collected holds nothing: the mapping can move, and goes with unmap', async () => {
  const name = 'collected-view';
  const mapping = Mapping.map(memfdOf(4, name));
  for (let i = 0; i < 10; i++) mapping.view(PAGE, PAGE);
  expect(() => {
    mapping.relocate();
  }).toThrow(expect.objectContaining({ code: 'EBUSY' }));
  const { address } = mapping;
  const moved = await collectUntil(() => {
    try {
      mapping.relocate();
    } catch {
      return false;
    }
    return true;
  });
  expect(moved).toBe(true);
  expect(mapping.address).not.toBe(address);
  mapping.unmap();
  expect(mappingsOf(name)).toBe(0);
});

test('detachViews empties them all: the pages go with unmap, and the mapping can be registered', (context) => {
  requires(context, 'uffd-minor');
  const name = 'detached-views';
  const memfd = memfdOf(4, name);
  const mapping = Mapping.map(memfd);
  const views = [mapping.view(), mapping.view(PAGE, PAGE), mapping.view(0, 0)];
  const bytes = new Uint8Array(views[0]!);
  mapping.detachViews();
  mapping.detachViews();
  expect(views.map((view) => view.byteLength)).toEqual([0, 0, 0]);
  expect(bytes[0]).toBeUndefined();
  expect(userfaultfd().register(mapping, ['missing']).pages).toBe(4);
  mapping.unmap();
  expect(mappingsOf(name)).toBe(0);
});

test('detachViews after unmap, with views that were collected', async () => {
  const name = 'detached-late';
  const mapping = Mapping.map(memfdOf(4, name));
  const keep = new Uint8Array(mapping.view());
  for (let i = 0; i < 100; i++) mapping.view();
  mapping.unmap();
  expect(await collectUntil(() => mappingsOf(name) === 1)).toBe(true);
  mapping.detachViews();
  expect(keep.length).toBe(0);
  expect(mappingsOf(name)).toBe(0);
  expect(await collectUntil(() => mappingsOf(name) === 0)).toBe(true);
});
