// A source and a policy that throw for page 13 and serve the rest of the pattern.
export function openSource() {
  return {
    readNow(target, targetOffset, length, offset) {
      if (offset <= 13 * 4096 && offset + length > 13 * 4096) throw new Error('page 13 is bad');
      for (let i = 0; i < length; i += 4096) {
        target.fill((((offset + i) / 4096) % 250) + 1, targetOffset + i, targetOffset + i + 4096);
      }
      return true;
    },
  };
}

export function createPolicy() {
  return {
    bringAlong({ page }) {
      if (page === 13) throw new Error('no idea about page 13');
    },
  };
}
