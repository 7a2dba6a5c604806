// A source that the first worker gets, and no other one.
export function openSource({ asked, sizeBytes }) {
  if (Atomics.add(asked, 0, 1) > 0) throw new Error('one is enough');
  return { sizeBytes, readNow: () => false };
}
