// All probes, by area. Adding one is adding it to its area.
import type { Probe } from '../probe.js';
import { answers } from './answers.js';
import { events } from './events.js';
import { features } from './features.js';
import { host } from './host.js';
import { kvm } from './kvm.js';
import { memfd } from './memfd.js';
import { minor } from './minor.js';
import { numa } from './numa.js';
import { opening } from './opening.js';
import { pagemap } from './pagemap.js';
import { protect } from './protect.js';
import { register } from './register.js';
import { waiting } from './waiting.js';

export interface Area {
  readonly name: string;
  readonly title: string;
  readonly probes: readonly Probe[];
}

export const areas: readonly Area[] = [
  { name: 'opening', title: 'Opening a userfaultfd, and what permits it', probes: opening },
  { name: 'features', title: 'Features and the handshake', probes: features },
  { name: 'register', title: 'What can be registered', probes: register },
  { name: 'answers', title: 'Answers: copy, zeropage, poison, move', probes: answers },
  { name: 'minor', title: 'MINOR faults and continue', probes: minor },
  { name: 'protect', title: 'Write protection', probes: protect },
  { name: 'waiting', title: 'Waiting, waking, messages', probes: waiting },
  { name: 'events', title: 'Events: fork, remap, remove, unmap', probes: events },
  { name: 'memfd', title: 'memfd', probes: memfd },
  { name: 'kvm', title: 'KVM and guest_memfd', probes: kvm },
  { name: 'numa', title: 'NUMA policy', probes: numa },
  { name: 'pagemap', title: 'Seeing pages, guards, advice', probes: pagemap },
  { name: 'host', title: 'The host and its limits', probes: host },
];

export function findProbe(id: string): Probe | undefined {
  for (const { probes } of areas) {
    const found = probes.find((probe) => probe.id === id);
    if (found !== undefined) return found;
  }
  return undefined;
}
