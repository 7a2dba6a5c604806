// A policy that brings eight pages along, poisons page 7, makes page 8 zero, and, if confused, has no idea about page 30.
export function createPolicy(confused) {
  return {
    bringAlong({ page }, window) {
      window.first = page - (page % 4);
      window.pages = 8;
    },
    decide({ page }) {
      if (page === 7) return 'poison';
      if (page === 8) return 'zero';
      return page === 30 && confused ? 'maybe' : 'fetch';
    },
  };
}
