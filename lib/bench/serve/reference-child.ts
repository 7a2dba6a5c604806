// The process of ReferenceProcess: FILE SOCKET. Takes the same handshake as the server; then C answers. Ends with its
// parent.
import { openSync, rmSync } from 'node:fs';
import { checked } from '../../errors.js';
import { native } from '../../native/load.js';
import { Connection } from '../../transports/connection.js';
import { receiveHandshake } from '../../transports/handshake.js';
import { parseMappings } from '../../transports/mappings.js';
import { listenAt } from '../../transports/socket-path.js';

const HANDSHAKE_MS = 10_000;
const [file, path] = process.argv.slice(2) as [string, string];
const snapshot = openSync(file, 'r');
const listening = new (native().UnixSocket)(listenAt(path, false));

const watcher = new (native().FdWatcher)(listening.fd(), () => {
  const fd = listening.accept();
  if (fd >= 0) void serve(new Connection(fd));
});
process.on('SIGINT', () => undefined);
process.on('disconnect', () => {
  watcher.close();
  rmSync(path, { force: true });
  process.exit();
});
process.send?.('listening');

async function serve(connection: Connection): Promise<void> {
  const descriptors: number[] = [];
  const { text } = await receiveHandshake(connection, descriptors, { timeoutMs: HANDSHAKE_MS });
  const [mapping] = parseMappings(text);
  const [userfaultfd, ...others] = descriptors;
  for (const fd of others) native().closeFd(fd);
  const handler = new (native().ReferenceHandler)(
    [userfaultfd!],
    Float64Array.of(mapping!.base_host_virt_addr),
    Float64Array.of(mapping!.size),
    mapping!.page_size,
    1,
    snapshot,
    [],
  );
  checked(handler.error(), 'mmap', 'the C handler');
  connection.send(`${JSON.stringify({ event: 'accepted', session: 0 })}\n`);
  connection.onData(
    ({ bytes }) => {
      if (bytes.length > 0) return;
      handler.stop();
      connection.close();
    },
    () => {
      handler.stop();
      connection.close();
    },
  );
}
