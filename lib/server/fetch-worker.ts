// Entry of a fetch worker thread: everything that can block or wait.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { serveFetches } from './fetch-endpoint.js';
import { openSource } from './modules.js';
import type { ModuleReference } from './page-source.js';

const { module, ports } = workerData as { module: ModuleReference; ports: MessagePort[] };

const source = await openSource(module, 'fetching');
for (const port of ports) serveFetches(port, source);
parentPort?.postMessage('ready');
parentPort?.once('message', () => {
  for (const port of ports) port.close();
  source.close?.();
});
