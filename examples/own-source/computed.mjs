// A synchronous source: every 8 bytes hold their own offset. `readNow` runs in the serving worker and must not wait.

export function openSource() {
  return {
    readNow(target, targetOffset, length, offset) {
      const words = new DataView(target.buffer, target.byteOffset + targetOffset, length);
      for (let at = 0; at < length; at += 8) words.setBigUint64(at, BigInt(offset + at), true);
      return true; // false would mean: not without waiting
    },
  };
}
