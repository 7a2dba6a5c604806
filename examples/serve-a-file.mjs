// Serves FILE to the clients that connect at SOCKET, until SIGTERM or SIGINT: node serve-a-file.mjs FILE SOCKET
import { once } from 'node:events';
import { FaultServer, HandoffListener, fileSource } from 'userfaultfd';

const [file, path] = process.argv.slice(2);
const server = await FaultServer.start({ source: fileSource(file), faultAround: 16 });
const listener = new HandoffListener(server, { path });

listener.on('session', (session, { pid }) => console.log(`session ${session}: process ${pid}`));
listener.on('refused', (reason) => console.log(`refused: ${reason}`));
server.on('parked', (session, reason) => console.log(`session ${session} parked: ${reason}`));
server.on('unserved', (session, action, page, reason) => console.log(`page ${page} ${action}: ${reason}`));
server.on('source-failed', (reason) => console.log(`the source failed: ${reason}`));
server.on('detached', (session, why, { faults, filledPages }) => {
  console.log(`session ${session} ${why}: ${faults} faults, ${filledPages} pages filled`);
});
server.on('error', (error) => {
  console.error(error.message); // a thread of the server has failed: ending tells the clients, going on would not
  listener.close();
  process.exit(1);
});

console.log(`listening at ${path}`);
await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
listener.close(); // no new clients
await server.drain(); // completes the memory of those there are
await server.close();
