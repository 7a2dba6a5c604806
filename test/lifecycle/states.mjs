// The states a thread can be in when its environment ends. Each function reaches its state, and returns what must stay.
// `blocking` ones call `reached` themselves, because they never return.
import { parentPort } from 'node:worker_threads';
import { Mapping, Userfaultfd, isSupported, pageSize } from '../../dist/index.js';
import { QueueControl } from '../../dist/native/contract.js';
import { native } from '../../dist/native/load.js';

const page = pageSize();

function registered(pages) {
  const mapping = Mapping.anonymous(pages * page);
  const uffd = Userfaultfd.open();
  return { mapping, uffd, region: uffd.register(mapping, ['missing']) };
}

/** Whoever unmaps it waits: the userfaultfd stays open, whatever becomes of its object, and nobody reads the event. */
function unread() {
  const mapping = Mapping.anonymous(4 * page);
  const uffd = Userfaultfd.open({ features: ['eventUnmap'] });
  uffd.register(mapping, ['missing']);
  native().duplicateFd(uffd.fd);
  return { mapping, uffd };
}

/** Reads faults until `count` threads wait in one each. */
async function faultsRead(uffd, count) {
  let seen = 0;
  for await (const batch of uffd.batches()) if ((seen += batch.length) >= count) return;
}

async function iterate(uffd) {
  for await (const fault of uffd) uffd.zeropage(fault);
}

export const states = {
  loaded: () => isSupported(),
  open: () => registered(4),
  iterating: async () => {
    const { mapping, uffd } = registered(4);
    void iterate(uffd);
    await mapping.read(0, page);
    return { mapping, uffd };
  },
  'blocked in a fault': async () => {
    const { mapping, uffd } = registered(4);
    mapping.read(0, page).catch(() => undefined);
    await faultsRead(uffd, 1);
    return { mapping, uffd };
  },
  'eight blocked, iterating': async () => {
    const { mapping, uffd } = registered(8);
    for (let i = 0; i < 8; i++) mapping.touch(i * page, page, { write: i % 2 === 0 }).catch(() => undefined);
    await faultsRead(uffd, 8);
    void iterate(uffd);
    return { mapping, uffd };
  },
  'accesses starting': () => {
    const { mapping, uffd } = registered(20);
    for (let i = 0; i < 20; i++) mapping.touch(i * page, page).catch(() => undefined);
    return { mapping, uffd };
  },
  'accesses ending': () => {
    const mapping = Mapping.anonymous(64 * page);
    for (let i = 0; i < 20; i++) void mapping.touch(0, 64 * page, { write: true });
    return { mapping };
  },
  'touch threads': async () => {
    const { mapping, uffd } = registered(16);
    const order = Uint32Array.from({ length: 16 }, (_, i) => i);
    const threads = new (native().TouchThreads)(mapping.handle, page, order, 4, false, true, [], () => undefined);
    await faultsRead(uffd, 4);
    return { mapping, uffd, threads };
  },
  'unmap events unread': () => {
    const { mapping, uffd } = unread();
    return { mapping, uffd };
  },
  'unmapped in a fault, unmap events unread': async () => {
    const { mapping, uffd } = unread();
    mapping.read(0, page).catch(() => undefined);
    await faultsRead(uffd, 1);
    mapping.unmap();
    return { uffd };
  },
  viewed: () => new Uint8Array(Mapping.anonymous(4 * page).view()).fill(1),
};

/** Waits in the addon until rung and told to stop. Only in workers: main must be free to ring. */
export const blockingStates = {
  'waiting in answerAndWait': () => {
    const answers = new Float64Array(new SharedArrayBuffer(64 * 8 * 8));
    const events = new Float64Array(new SharedArrayBuffer(64 * 6 * 8));
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const control = new Int32Array(new SharedArrayBuffer(4 * QueueControl.fields));
    control[1] = -1;
    const queue = new (native().FaultQueue)(answers, events, control);
    const { uffd, mapping } = registered(4);
    queue.add(native().duplicateFd(uffd.fd), -1, 1);
    parentPort.postMessage({ wakeFd: queue.wakeFd(), stop });
    while (Atomics.load(stop, 0) === 0) queue.answerAndWait();
    return { queue, uffd, mapping };
  },
};
