// The cases of the kernel's own suites (tools/testing/selftests/mm) that are about userfaultfd, by their names there, with
// the memory each is for and the file here that has it. A test is one of a case when its title begins with the name and a
// colon; it stands in the suite `on MEMORY`, or in none where the case is of no memory. scripts/skip-reporter.mjs counts
// them, scripts/support-table.mjs writes them into docs/conformance.md.

const all = ['anon', 'shmem', 'shmem-private', 'hugetlb', 'hugetlb-private'];
const none = [''];

/** Folios of transparent huge pages on x86-64, after the base page. */
const folioSizes = [4, 16, 32, 64, 128, 256, 512, 1024, 2048].map((kibibytes) => kibibytes * 1024);

export const mremapCases = [
  ...folioSizes.flatMap((size) =>
    [true, false].flatMap((isPrivate) =>
      [false, true].map((swapout) => ({
        on: isPrivate ? 'anon' : 'shmem',
        memory: isPrivate ? 'anon' : 'shmem',
        size,
        swapout,
      })),
    ),
  ),
  ...[2 ** 21, 2 ** 30].flatMap((size) =>
    ['hugetlb-private', 'hugetlb'].map((memory) => ({ on: memory, memory, size, swapout: false })),
  ),
].map((one) => ({ ...one, name: mremapName(one) }));

function mremapName({ memory, size, swapout }) {
  const flag = (name, is) => `${name}=${is ? 'true' : 'false'}`;
  const flags = [
    flag('private', memory === 'anon' || memory === 'hugetlb-private'),
    flag('swapout', swapout),
    flag('hugetlb', memory.startsWith('hugetlb')),
  ];
  return `test_one_folio(size=${size}, ${flags.join(', ')})`;
}

export const kernelSuites = [
  {
    suite: 'uffd-unit-tests',
    cases: [
      { name: 'UFFDIO_API (with syscall)', on: none, file: 'api' },
      { name: 'UFFDIO_API (with /dev/userfaultfd)', on: none, file: 'api' },
      { name: 'register-ioctls', on: all, file: 'register' },
      { name: 'zeropage', on: all, file: 'fill' },
      { name: 'move', on: ['anon'], file: 'move' },
      { name: 'move-pmd', on: ['anon'], file: 'move' },
      { name: 'move-pmd-split', on: ['anon'], file: 'move' },
      { name: 'wp-fork', on: all, file: 'fork' },
      { name: 'wp-fork-with-event', on: all, file: 'fork' },
      { name: 'wp-fork-pin', on: all, file: 'fork' },
      { name: 'wp-fork-pin-with-event', on: all, file: 'fork' },
      { name: 'wp-unpopulated', on: ['anon'], file: 'protect' },
      { name: 'minor', on: ['shmem', 'hugetlb'], file: 'minor' },
      { name: 'minor-wp', on: ['shmem', 'hugetlb'], file: 'minor' },
      { name: 'minor-collapse', on: ['shmem'], file: 'minor' },
      { name: 'sigbus', on: all, file: 'events' },
      { name: 'sigbus-wp', on: all, file: 'events' },
      { name: 'events', on: all, file: 'family' },
      { name: 'events-wp', on: all, file: 'family' },
      { name: 'poison', on: all, file: 'fill' },
      { name: 'mmap-changing', on: ['shmem'], file: 'events' },
      { name: 'rwp-async', on: all, file: 'rwp' },
      { name: 'rwp-sync', on: all, file: 'rwp' },
      { name: 'rwp-pagemap', on: all, file: 'rwp' },
      { name: 'rwp-mprotect', on: all, file: 'rwp' },
      { name: 'rwp-gup', on: all, file: 'rwp' },
      { name: 'rwp-async-toggle', on: all, file: 'rwp' },
      { name: 'rwp-close', on: all, file: 'rwp' },
      { name: 'rwp-fork', on: all, file: 'rwp-fork' },
      { name: 'rwp-fork-pin', on: ['anon'], file: 'rwp-fork' },
      { name: 'rwp-swap-cow', on: ['anon'], file: 'rwp-fork' },
      { name: 'rwp-wp-exclusive', on: all, file: 'rwp' },
    ],
  },
  { suite: 'uffd-wp-mremap', cases: mremapCases.map(({ name, on }) => ({ name, on: [on], file: 'mremap' })) },
  { suite: 'guard-regions', cases: [{ name: 'uffd', on: ['anon'], file: 'guard' }] },
  {
    suite: 'pagemap_ioctl',
    cases: [
      { name: 'sanity_tests', on: none, file: 'pagemap' },
      { name: 'base_tests', on: all, file: 'pagemap' },
      { name: 'hpage_unit_tests', on: ['anon'], file: 'pagemap' },
      { name: 'unpopulated_scan_test', on: ['anon', 'shmem', 'hugetlb'], file: 'pagemap' },
      { name: 'userfaultfd_tests', on: all, file: 'pagemap' },
      { name: 'mprotect_tests', on: ['anon', 'shmem'], file: 'pagemap' },
      { name: 'transact_test', on: all, file: 'pagemap' },
      { name: 'zeropfn_tests', on: ['anon'], file: 'pagemap' },
    ],
  },
];
