// A source module that blocks its thread on the second half until the gate is open, as a dead network file system does.
export function openSource({ sizeBytes, gate }) {
  return {
    read(target, targetOffset, length, offset) {
      if (offset + length > sizeBytes / 2) Atomics.wait(gate, 0, 0);
      for (let i = 0; i < length; i += 4096)
        target.fill((((offset + i) / 4096) % 250) + 1, targetOffset + i, targetOffset + i + 4096);
    },
  };
}
