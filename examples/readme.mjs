import { Mapping, Memfd, Userfaultfd, pageSize } from 'userfaultfd';

const memfd = Memfd.create({ sizeBytes: 4 * pageSize() });
const mapping = Mapping.map(memfd);
const uffd = Userfaultfd.open();
uffd.register(mapping, ['missing', 'minor']);

const reading = mapping.read(0, mapping.lengthBytes); // touches all pages, on a thread of its own

for await (const fault of uffd) {
  console.log(`${fault.reason} fault, page ${fault.page}`);
  memfd.write(Buffer.from(`I am page ${fault.page}`), fault.page * pageSize());
  uffd.continue(fault); // maps the page; the thread runs on
  if (fault.page === 3) break;
}
const bytes = await reading;
console.log(bytes.toString('latin1', 2 * pageSize(), 2 * pageSize() + 11));
uffd.close();
