// A source module that blocks its thread on the second half, as a dead network file system does.
export function openSource({ sizeBytes, blockMs }) {
  return {
    read(target, targetOffset, length, offset) {
      if (offset + length > sizeBytes / 2) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockMs);
      for (let i = 0; i < length; i += 4096)
        target.fill((((offset + i) / 4096) % 250) + 1, targetOffset + i, targetOffset + i + 4096);
    },
  };
}
