// Entry of a serving worker thread.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { checked, messageOf } from '../errors.js';
import { native } from '../native/load.js';
import type { FromServing, ServingOptions } from './messages.js';
import { createPolicy, openSource } from './modules.js';
import { faultAround } from './policy.js';
import { ServingLoop } from './serving-loop.js';

const { options, port, fetchPorts } = workerData as {
  options: ServingOptions;
  port: MessagePort;
  fetchPorts: MessagePort[];
};

try {
  if (options.cpus.length > 0)
    checked(native().setAffinity([...options.cpus]), 'sched_setaffinity', options.cpus.join());
  const source = options.source === undefined ? undefined : await openSource(options.source, 'serving');
  const policy = options.policy === undefined ? faultAround(options.faultAround) : await createPolicy(options.policy);
  const loop = new ServingLoop(port, fetchPorts, options, source, policy);
  loop.run();
  source?.close?.();
} catch (error) {
  port.postMessage({ type: 'failed', error: messageOf(error) } satisfies FromServing);
}
parentPort?.close();
port.close();
