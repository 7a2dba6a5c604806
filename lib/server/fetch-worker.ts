// Entry of a fetch worker thread: everything that can block or wait.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { serveFetches } from './fetch-endpoint.js';
import type { ToFetching } from './messages.js';
import { openSource } from './modules.js';
import type { ModuleReference } from './page-source.js';

const { module } = workerData as { module: ModuleReference };

const source = await openSource(module, 'fetching');
const ports: MessagePort[] = [];
parentPort?.on('message', (message: ToFetching) => {
  if (message !== 'stop') {
    ports.push(message.port);
    serveFetches(message.port, source);
    return;
  }
  for (const port of ports) port.close();
  source.close?.();
  parentPort?.close();
});
parentPort?.postMessage('ready');
