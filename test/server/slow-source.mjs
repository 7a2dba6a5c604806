// A source module whose first half is at hand and whose second half takes its time: `data.delayMs`, or for ever.
import { setTimeout } from 'node:timers/promises';

export function openSource({ sizeBytes, delayMs }) {
  const fill = (target, targetOffset, length, offset) => {
    for (let i = 0; i < length; i += 4096)
      target.fill((((offset + i) / 4096) % 250) + 1, targetOffset + i, targetOffset + i + 4096);
  };
  return {
    readNow(target, targetOffset, length, offset) {
      if (offset + length > sizeBytes / 2) return false;
      fill(target, targetOffset, length, offset);
      return true;
    },
    async read(target, targetOffset, length, offset) {
      await setTimeout(delayMs);
      fill(target, targetOffset, length, offset);
    },
  };
}
