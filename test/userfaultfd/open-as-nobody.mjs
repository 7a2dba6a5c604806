// Loads the package as root (its folder may be closed to others), then becomes nobody and opens userfaultfds.
import process from 'node:process';
import { Mapping, Userfaultfd, isSupported, pageSize } from '../../dist/index.js';

const page = pageSize();
process.setgroups([]);
process.setgid(65534);
process.setuid(65534);

function failure(action) {
  try {
    action();
    return undefined;
  } catch ({ code, syscall, message }) {
    return { code, syscall, message };
  }
}

async function serveOnePage() {
  const uffd = Userfaultfd.open({ userModeOnly: true });
  const mapping = Mapping.anonymous(page);
  uffd.register(mapping, ['missing']);
  const reading = mapping.read(0, 2);
  for await (const fault of uffd) {
    const { kind } = uffd.copy(fault, new Uint8Array(page).fill('ok'.charCodeAt(0)));
    const read = (await reading).every((byte) => byte === 'o'.charCodeAt(0)) ? 'ok' : 'wrong';
    return { route: uffd.route, installed: kind, read };
  }
}

const full = failure(() => Userfaultfd.open());
const userModeOnly = await serveOnePage();
process.stdout.write(JSON.stringify({ full, userModeOnly, support: isSupported() }));
