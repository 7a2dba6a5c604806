// A policy: brings along the pages after a fault, twice as many each time while faults come one after the other.
// It runs in each serving worker, between a fault and its answer: no waiting, no logging, few allocations.

export function createPolicy({ most }) {
  const runs = new Map(); // by session and region: the window that was brought last

  return {
    bringAlong(fault, window) {
      const key = fault.session * 1024 + fault.region;
      let run = runs.get(key);
      if (run === undefined) runs.set(key, (run = { pages: 1, end: -1 }));
      run.pages = fault.page === run.end ? Math.min(2 * run.pages, most) : 1;
      run.end = fault.page + run.pages;
      // Clipped to the region and to absent pages by the server.
      window.first = fault.page;
      window.pages = run.pages;
    },
  };
}
