// Registers memory, sends the userfaultfd over descriptor 3, and waits to be killed.
import { Buffer } from 'node:buffer';
import { setTimeout as delay } from 'node:timers/promises';
import { Mapping, Userfaultfd, pageSize } from '../../dist/index.js';
import { native } from '../../dist/native/load.js';

const mapping = Mapping.anonymous(4 * pageSize());
const uffd = Userfaultfd.open();
uffd.register(mapping, ['missing']);
const socket = new (native().UnixSocket)(3);
socket.send(Buffer.from(JSON.stringify({ start: Number(mapping.address), page: pageSize() })), [uffd.fd]);
await delay(30_000);
