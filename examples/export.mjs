// Exports memory as it is at one moment while threads go on writing to it:
//
//   node export.mjs FILE [MIB]
//
// Every page is write-protected in one call, for which alone the writers are halted. From then on a page is saved when it
// is first written to, or when the export gets to it, whichever comes first; then its protection is taken away.
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import process from 'node:process';
import { Mapping, Userfaultfd, pageSize } from 'userfaultfd';

const [path, mebibytes = '256'] = process.argv.slice(2);
if (path === undefined || !(Number(mebibytes) >= 1)) {
  console.error('usage: node export.mjs FILE [MIB]');
  process.exit(2);
}
const PAGE = pageSize();
const lengthBytes = Number(mebibytes) * 2 ** 20;
const pages = lengthBytes / PAGE;
const EXTENT = 256;

const mapping = Mapping.anonymous(lengthBytes);
for (let offset = 0; offset < lengthBytes; offset += 2 ** 20) {
  await mapping.write(offset, Buffer.alloc(2 ** 20, offset / 2 ** 20 + 1));
}
const uffd = Userfaultfd.open({ features: ['pagefaultFlagWp'] });
const region = uffd.register(mapping, ['wp']);

// The writers: each writes to one random page after the other, on native threads; halted, it stops between two writes.
let halted = Promise.resolve();
let writing = true;
let writes = 0;
const underWay = [];
async function writer(_, index) {
  for (; writing; writes++) {
    await halted;
    const page = Math.floor(Math.random() * pages);
    underWay[index] = mapping.write(page * PAGE + index, Buffer.of(writes % 256));
    await underWay[index];
  }
}

const saved = new Uint8Array(pages);
const file = await open(path, 'w+');
const faults = new AbortController();
let firstWrites = 0;

/** Saves pages that nobody can change meanwhile, and lets their writers go on. */
async function save(first, count) {
  const bytes = await mapping.read(first * PAGE, count * PAGE);
  await file.write(bytes, 0, bytes.length, first * PAGE);
  saved.fill(1, first, first + count);
  uffd.writeProtect({ region, page: first, pages: count }, { protect: false });
}

// One at a time: a page is saved once, by whoever is first.
let last = Promise.resolve();
function inTurn(work) {
  last = last.then(work);
  return last;
}

async function serve() {
  for await (const fault of uffd.events({ signal: faults.signal })) {
    if (fault.type !== 'pagefault') continue;
    await inTurn(async () => {
      if (saved[fault.page] === 1) return;
      firstWrites++;
      await save(fault.page, 1);
    });
  }
}

async function exportAll() {
  for (let page = 0; page < pages;) {
    let count = 0;
    while (page + count < pages && count < EXTENT && saved[page + count] === 0) count++;
    if (count === 0) page++;
    else {
      await inTurn(async () => {
        // Some may have been saved while this waited for its turn.
        while (count > 0 && saved[page] === 1) {
          page++;
          count--;
        }
        let run = 0;
        while (run < count && saved[page + run] === 0) run++;
        if (run > 0) await save(page, run);
        page += run;
      });
    }
  }
}

const writers = Array.from({ length: 3 }, writer);
await new Promise((resolve) => setTimeout(resolve, 200));

// The moment: nobody writes while all of the memory is protected.
let resume;
halted = new Promise((resolve) => (resume = resolve));
await Promise.all(underWay);
const before = performance.now();
const { kind } = uffd.writeProtect({ region, page: 0, pages });
const pause = performance.now() - before;
if (kind !== 'installed') throw new Error(`UFFDIO_WRITEPROTECT: ${kind}`);
// What the export must come out as; an export that is not checked goes without it, and the pause is the call alone.
const expected =
  process.env.VERIFY === '1' ? createHash('sha256').update(await mapping.read(0, lengthBytes)) : undefined;
const writesBefore = writes;
resume();

const serving = serve().catch((error) => {
  if (!faults.signal.aborted) throw error;
});
await exportAll();
const during = writes - writesBefore;
writing = false;
await Promise.all(writers);
faults.abort();
await serving;

console.log(`${pages} pages exported; writers halted for ${pause.toFixed(1)} ms, ${during} writes since`);
console.log(`${firstWrites} pages saved because they were written to`);
if (expected !== undefined) {
  const actual = createHash('sha256');
  for (let offset = 0; offset < lengthBytes; offset += 2 ** 20) {
    const { buffer } = await file.read(Buffer.alloc(2 ** 20), 0, 2 ** 20, offset);
    actual.update(buffer);
  }
  const same = actual.digest('hex') === expected.digest('hex');
  console.log(same ? 'the export is the memory of that moment' : 'THE EXPORT IS NOT THE MEMORY OF THAT MOMENT');
  process.exitCode = same ? 0 : 1;
}
await file.close();
uffd.close();
mapping.unmap();
