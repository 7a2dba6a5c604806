// What the servers in own-policy/ and own-source/ share: serves until SIGTERM. serve-a-file.mjs shows more events.
import { once } from 'node:events';
import { FaultServer, HandoffListener } from 'userfaultfd';

/** Serves at a socket with the given options of FaultServer. */
export async function serve(path, options) {
  const server = await FaultServer.start(options);
  const listener = new HandoffListener(server, { path });
  server.on('detached', (session, why, { faults, filledPages, fetches }) => {
    console.log(`session ${session} ${why}: ${faults} faults, ${filledPages} pages filled, ${fetches} fetches`);
  });
  server.on('error', (error) => {
    console.error(error.message); // a thread has failed: ending tells the clients, going on would not
    listener.close();
    process.exit(1);
  });
  console.log(`listening at ${path}`);
  await once(process, 'SIGTERM');
  listener.close();
  await server.drain();
  await server.close();
}
