// All probes, by area. Adding one is adding it to its area.
import type { Probe } from '../probe.js';
import { answers } from './answers.js';
import { events } from './events.js';
import { features } from './features.js';
import { minor } from './minor.js';
import { opening } from './opening.js';
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
];

export function findProbe(id: string): Probe | undefined {
  for (const { probes } of areas) {
    const found = probes.find((probe) => probe.id === id);
    if (found !== undefined) return found;
  }
  return undefined;
}
