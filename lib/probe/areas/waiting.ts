// Who sleeps, who is woken, and what messages say.
import { setTimeout as delay } from 'node:timers/promises';
import { outcomeName } from '../kernel.js';
import { openLimited } from '../openings.js';
import { type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import { done, missingAnonymous } from './answers.js';
import { reasonOf, sharedWith } from './minor.js';

const ASLEEP_MS = 30;
const WOKEN_MS = 500;

/** What has become of an access, for as long as it may take. */
async function fate(scene: Scene, access: Promise<string>, withinMs: number): Promise<string> {
  return (await scene.within(access, withinMs)) ?? 'asleep';
}

const waking: readonly Probe[] = [
  {
    id: 'wake.unregisterMinor',
    description: 'UFFDIO_UNREGISTER wakes the threads that wait for a minor fault',
    since: 'never',
    needs: ['userfaultfd'],
    outcomes: {
      'asleep, read 1': { result: 'no', kernels: 'up to 7.3', means: 'WAKE the same range after UNREGISTER' },
      'read 1, read 1': { result: 'yes', kernels: 'none up to 7.3' },
    },
    ask: async (scene) => {
      const { subject, memfd, mapping } = sharedWith(scene, ['minor']);
      memfd.write(Uint8Array.of(1), 0);
      const reading = scene.access(mapping, 0);
      await subject.messages();
      subject.unregister(mapping);
      const after = await fate(scene, reading, ASLEEP_MS);
      subject.answer('wake', mapping);
      return `${after}, ${await fate(scene, reading, WOKEN_MS)}`;
    },
  },
  {
    id: 'wake.close',
    description: 'closing the last descriptor wakes the threads that wait: they read zeroes',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('read 0', '4.3'),
    ask: async (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      const reading = scene.access(mapping, 0);
      await subject.messages();
      subject.close();
      return fate(scene, reading, WOKEN_MS);
    },
  },
  {
    id: 'wake.dontwakeBatch',
    description: 'with DONTWAKE a filled page wakes nobody, until WAKE does',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('asleep, read 99', '4.3'),
    ask: async (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      const reading = scene.access(mapping, 0);
      await subject.messages();
      subject.answer('copy', mapping, { mode: 1, pages: 4 });
      const before = await fate(scene, reading, ASLEEP_MS);
      subject.answer('wake', mapping, { pages: 4 });
      return `${before}, ${await fate(scene, reading, WOKEN_MS)}`;
    },
  },
  {
    id: 'wake.spurious',
    description: 'a thread that is woken while the page is still absent faults again, with a second message',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('missing, missing', '4.3'),
    ask: async (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      void scene.access(mapping, 0);
      const first = reasonOf((await subject.messages())[0]);
      subject.answer('wake', mapping);
      return `${first}, ${reasonOf((await subject.messages())[0])}`;
    },
  },
];

const POLLIN = 1;
const POLLERR = 8;
const F_SETFL = 4;

const reading: readonly Probe[] = [
  {
    id: 'poll.blockingFd',
    description: 'poll(2) of a blocking userfaultfd says POLLERR',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('POLLERR', '4.3'),
    ask: (scene) => {
      const subject = scene.userfaultfd();
      scene.call('fcntl', subject.fd, F_SETFL, 0);
      const pollfd = new DataView(new ArrayBuffer(8));
      pollfd.setInt32(0, subject.fd, true);
      pollfd.setInt16(4, POLLIN, true);
      const events = new Uint8Array(pollfd.buffer);
      const ready = scene.call('ppoll', events, 1, new BigInt64Array(2), 0, 8);
      if (ready < 0) return outcomeName(ready);
      return (pollfd.getInt16(6, true) & POLLERR) === 0 ? 'no POLLERR' : 'POLLERR';
    },
  },
  {
    id: 'read.short',
    description: 'a read of fewer bytes than a message is refused',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('EINVAL', '4.3'),
    ask: (scene) => outcomeName(scene.call('read', scene.userfaultfd().fd, new Uint8Array(31), 31)),
  },
  {
    id: 'read.batch',
    description: 'one read(2) takes all messages that wait',
    since: '4.3',
    needs: ['userfaultfd'],
    outcomes: always('3 messages', '4.3'),
    ask: async (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      for (let page = 0; page < 3; page++) void scene.access(mapping, page);
      const waiting = () =>
        Number(/^pending:\s*(\d+)/m.exec(scene.kernel.readText(`/proc/self/fdinfo/${subject.fd}`) ?? '')?.[1]);
      for (let waited = 0; waited < WOKEN_MS && waiting() < 3; waited++) await delay(1);
      return `${subject.read().length} messages`;
    },
  },
  {
    id: 'msg.threadId',
    description: 'with the feature threadId a fault names the thread',
    since: '4.14',
    needs: ['userfaultfd'],
    outcomes: always('a thread of this process', '4.14'),
    ask: async (scene) => {
      const subject = scene.userfaultfd(['threadId']);
      const mapping = scene.anonymous();
      subject.registered(mapping, ['missing']);
      void scene.access(mapping, 0);
      const [message] = await subject.messages();
      const threadId = message !== undefined && 'threadId' in message ? message.threadId : 0;
      const ours = scene.kernel.readText(`/proc/self/task/${threadId}/stat`) !== undefined;
      return { seen: ours ? 'a thread of this process' : `thread ${threadId}`, threadId };
    },
  },
  {
    id: 'msg.exactAddress',
    description: 'with the feature exactAddress a fault has the byte, not the page',
    since: '5.18',
    needs: ['userfaultfd'],
    outcomes: always('byte 123', '5.18'),
    ask: async (scene) => {
      const subject = scene.userfaultfd(['exactAddress']);
      const mapping = scene.anonymous();
      subject.registered(mapping, ['missing']);
      // Its end is the end of the probe.
      mapping.read(123, 1, { signal: scene.signal }).catch(() => undefined);
      const [message] = await subject.messages();
      if (message === undefined || !('address' in message)) return 'no message';
      return `byte ${message.address - mapping.address}`;
    },
  },
  {
    id: 'sigbus.feature',
    description: 'with the feature sigbus an access to an absent page is SIGBUS, without a message',
    since: '4.14',
    needs: ['userfaultfd'],
    outcomes: always('SIGBUS, si_code 2, no message', '4.14'),
    ask: async (scene) => {
      const subject = scene.userfaultfd(['sigbus']);
      const mapping = scene.anonymous();
      subject.registered(mapping, ['missing']);
      const access = await fate(scene, scene.access(mapping, 0), WOKEN_MS);
      return `${access}, ${reasonOf(subject.read()[0])}`;
    },
  },
];

/** Bytes of a memfd, read(2) into a page that is absent: a fault of kernel code. */
function kernelRead(scene: Scene, address: bigint): Promise<number> {
  const memfd = scene.memfd(1);
  return scene.elsewhere('read', memfd.fd, Number(address), 8);
}

const kernelFaults: readonly Probe[] = [
  {
    id: 'kernelFault.message',
    description: 'a fault of kernel code (read(2) into an absent page) is reported, and goes on when it is answered',
    since: '4.3',
    needs: ['kernelFaults'],
    outcomes: always('missing, done, 8 bytes read', '4.3'),
    ask: async (scene) => {
      const { subject, mapping } = missingAnonymous(scene);
      const reading = kernelRead(scene, mapping.address);
      const reason = reasonOf((await subject.messages())[0]);
      const answered = done(subject.answer('copy', mapping), mapping);
      return `${reason}, ${answered}, ${(await scene.within(reading, WOKEN_MS)) ?? 'no'} bytes read`;
    },
  },
  {
    id: 'userModeOnly.kernelAccess',
    description: 'with USER_MODE_ONLY a fault of kernel code fails at once',
    since: '5.11',
    needs: ['userfaultfd'],
    outcomes: always('EFAULT, no message', '5.11'),
    ask: async (scene) => {
      const subject = scene.subject(openLimited(scene.kernel));
      subject.handshake(0n);
      const mapping = scene.anonymous();
      subject.registered(mapping, ['missing']);
      const read = await scene.within(kernelRead(scene, mapping.address), WOKEN_MS);
      return `${read === undefined ? 'asleep' : outcomeName(read)}, ${reasonOf(subject.read()[0])}`;
    },
  },
  {
    id: 'signal.kernelFaultStorm',
    description: 'kernel code that waits with a signal pending sends one more message, not thousands',
    since: 'never',
    needs: ['kernelFaults'],
    outcomes: {
      storm: {
        result: 'no',
        kernels: 'up to 7.3',
        means: 'take messages for a page that is being fetched for what they are: the same fault again',
      },
      'one more': { result: 'yes', kernels: 'none up to 7.3' },
    },
    ask: signalStorm,
  },
];

const STORM_MS = 100;
/** More than two: it would not end. */
const STORM_MESSAGES = 3;

async function signalStorm(scene: Scene) {
  const subject = scene.userfaultfd(['threadId']);
  const mapping = scene.anonymous();
  subject.registered(mapping, ['missing']);
  const ignore = () => undefined;
  process.on('SIGUSR2', ignore);
  scene.defer(() => process.off('SIGUSR2', ignore));
  const reading = kernelRead(scene, mapping.address);
  const [message] = await subject.messages();
  const threadId = message !== undefined && 'threadId' in message ? message.threadId : 0;
  const sent = scene.call('tgkill', process.pid, threadId, 12);
  if (sent < 0) return outcomeName(sent);
  const until = performance.now() + STORM_MS * scene.patience;
  let more = 0;
  // Without a pause: the thread spins between two messages, and each is one read.
  while (performance.now() < until && more < STORM_MESSAGES) more += subject.read().length;
  subject.answer('copy', mapping);
  const read = await scene.within(reading, WOKEN_MS);
  return { seen: more >= STORM_MESSAGES ? 'storm' : 'one more', messages: more, read: read ?? 'asleep' };
}

export const waiting: readonly Probe[] = [...waking, ...reading, ...kernelFaults];
