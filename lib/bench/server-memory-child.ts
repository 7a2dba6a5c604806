// The server process of server-memory.ts: FILE SOCKET. Ends with its parent.
import { readFileSync } from 'node:fs';
import { FaultServer } from '../server/fault-server.js';
import { fileSource } from '../sources/file.js';
import { HandoffListener } from '../transports/handoff-listener.js';
import type { MemoryOfServer } from './server-memory.js';

const [file, path] = process.argv.slice(2) as [string, string];
const server = await FaultServer.start({ source: fileSource(file) });
const listener = new HandoffListener(server, { path });
process.on('SIGINT', () => undefined);
process.on('message', () => {
  void report();
});
process.on('disconnect', () => {
  listener.close();
  void server.close().then(() => {
    process.exit();
  });
});
await report();

async function report(): Promise<void> {
  const sessions = await server.stats();
  const status = readFileSync('/proc/self/status', 'utf8');
  const memory: MemoryOfServer = {
    anonymousBytes: Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]) * 1024,
    // A byte each, in a memfd.
    pageStateBytes: sessions.reduce((bytes, { pages }) => bytes + pages, 0),
  };
  process.send?.(memory);
}
