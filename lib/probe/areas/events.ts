// The messages that are not faults, and what answers say until they have been read.
import { setTimeout as delay } from 'node:timers/promises';
import type { FaultEvent } from '../../userfaultfd/events.js';
import type { FeatureName } from '../../userfaultfd/features.js';
import { bytesOrErrno, outcomeName } from '../kernel.js';
import { NotThere, type Probe, always } from '../probe.js';
import type { Scene } from '../scene.js';
import type { Range, Subject } from '../subject.js';
import { reasonOf } from './minor.js';

const PAGES = 4;
const WAIT_MS = 500;
const MADV_DONTNEED = 4;
const MREMAP_MAYMOVE_FIXED = 3;

interface Changing {
  readonly subject: Subject;
  readonly range: ReturnType<Scene['range']>;
}

function registered(scene: Scene, features: FeatureName[]): Changing {
  const subject = scene.userfaultfd(features);
  const range = scene.range(PAGES);
  subject.registered(range, ['missing']);
  subject.answer('copy', range, { page: 1, pages: PAGES - 1 });
  return { subject, range };
}

/** What an answer says while the change waits for its message to be read. */
async function whileWaiting(subject: Subject, range: Range): Promise<string> {
  let seen = '';
  for (let waited = 0; waited < WAIT_MS; waited++) {
    seen = bytesOrErrno(subject.answer('copy', range, { page: 1 }));
    if (seen === 'EAGAIN') break;
    await delay(1);
  }
  return seen;
}

function event(
  type: FaultEvent['type'],
  feature: FeatureName,
  description: string,
  change: (scene: Scene, changing: Changing) => Promise<number>,
): Probe {
  return {
    id: `event.${type}`,
    description: `with the feature ${feature}, ${description}; until it is read, answers say EAGAIN`,
    since: '4.11',
    needs: ['userfaultfd'],
    outcomes: always(`EAGAIN, ${type}, ok`, '4.11'),
    ask: async (scene) => {
      const changing = registered(scene, [feature]);
      const changed = change(scene, changing);
      const during = await whileWaiting(changing.subject, changing.range);
      const [message] = await changing.subject.messages();
      if (message?.type === 'fork') message.userfaultfd.close();
      const returned = await scene.within(changed, WAIT_MS);
      return [during, reasonOf(message), returned === undefined ? 'asleep' : outcomeName(returned)].join(', ');
    },
  };
}

const start = ({ range }: Changing) => Number(range.address);

function unmap(scene: Scene, changing: Changing): Promise<number> {
  changing.range.gone();
  return scene.elsewhere('munmap', start(changing), changing.range.lengthBytes);
}

function remap(scene: Scene, changing: Changing): Promise<number> {
  const target = scene.range(PAGES);
  const { lengthBytes } = target;
  changing.range.gone();
  const to = Number(target.address);
  return scene.elsewhere('mremap', start(changing), lengthBytes, lengthBytes, MREMAP_MAYMOVE_FIXED, to);
}

/** A child that waits, and the userfaultfd of its memory. */
async function forked(scene: Scene): Promise<{ child: number; subject: Subject; range: Range; parent: Subject }> {
  const { subject: parent, range } = registered(scene, ['eventFork']);
  const forking = scene.fork(0);
  const [message] = await parent.messages();
  if (message?.type !== 'fork') throw new NotThere({ seen: reasonOf(message) }, 'a message of the fork');
  const { userfaultfd } = message;
  scene.defer(() => {
    userfaultfd.close();
  });
  // A copy of the descriptor: the object that came with the event closes its own.
  const copy = scene.call('fcntl', userfaultfd.fd, 1030, 0);
  return { child: await forking, subject: scene.subject(copy), range, parent };
}

const children: readonly Probe[] = [
  {
    id: 'mm.dead',
    description: 'answers to a process that has exited say so: ESRCH',
    since: '4.14',
    needs: ['userfaultfd'],
    outcomes: always('ESRCH', '4.14'),
    ask: async (scene) => {
      const { child, subject, range } = await forked(scene);
      scene.kill(child);
      return bytesOrErrno(subject.answer('copy', range));
    },
  },
  {
    id: 'move.crossMm',
    description: 'UFFDIO_MOVE moves pages to another process',
    since: 'never',
    needs: ['userfaultfd'],
    outcomes: {
      EINVAL: { result: 'no', kernels: 'up to 7.3', means: 'copy the bytes' },
    },
    ask: async (scene) => {
      const { subject, range } = await forked(scene);
      const source = Number(range.address) + scene.page;
      return bytesOrErrno(subject.answer('move', range, { source }));
    },
  },
];

export const events: readonly Probe[] = [
  event('remove', 'eventRemove', 'MADV_DONTNEED sends a message', (scene, changing) =>
    scene.elsewhere('madvise', start(changing), changing.range.lengthBytes, MADV_DONTNEED),
  ),
  event('remap', 'eventRemap', 'mremap(2) sends a message', remap),
  event('unmap', 'eventUnmap', 'munmap(2) sends a message', unmap),
  event('fork', 'eventFork', 'fork(2) sends a message with a userfaultfd for the child', (scene) => scene.fork(0)),
  {
    id: 'event.punchSilent',
    description: 'a hole punched into a memfd sends no message',
    since: '4.11',
    needs: ['userfaultfd'],
    outcomes: always('no message', '4.11'),
    ask: async (scene) => {
      const subject = scene.userfaultfd(['eventRemove']);
      const { memfd, mapping } = scene.shared();
      subject.registered(mapping, ['missing']);
      subject.answer('copy', mapping);
      memfd.punchHole(0, scene.page);
      return reasonOf((await subject.quiet())[0]);
    },
  },
  {
    id: 'event.order',
    description: 'mremap(2) sends REMAP, then UNMAP of the old range',
    since: '4.11',
    needs: ['userfaultfd'],
    outcomes: always('remap, unmap', '4.11'),
    ask: async (scene) => {
      const changing = registered(scene, ['eventRemap', 'eventUnmap']);
      const changed = remap(scene, changing);
      const messages = await changing.subject.messages(2);
      await scene.within(changed, WAIT_MS);
      return messages.map(({ type }) => type).join(', ');
    },
  },
  ...children,
];
