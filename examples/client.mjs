// Has SIZE bytes served by the fault server at SOCKET, and prints their SHA-256: node client.mjs SOCKET SIZE
import { createHash } from 'node:crypto';
import { Mapping, Memfd, Userfaultfd, handOff } from 'userfaultfd';

const [socket, size] = [process.argv[2], Number(process.argv[3])];
const memfd = Memfd.create({ sizeBytes: size });
const mapping = Mapping.map(memfd);
const userfaultfd = Userfaultfd.open(); // stays open: if the last one closes, missing pages read as zeroes
userfaultfd.register(mapping, ['missing', 'minor']);
const handoff = await handOff(socket, { userfaultfd, memfd, mappings: [{ mapping, offset: 0 }] });

const gone = new AbortController(); // without it, a read would wait for a server that is no more
handoff.done.catch((error) => gone.abort(error));

const hash = createHash('sha256');
for (let at = 0; at < size; at += 65536) {
  hash.update(await mapping.read(at, Math.min(65536, size - at), { signal: gone.signal }));
}
console.log(hash.digest('hex'));
handoff.close();
