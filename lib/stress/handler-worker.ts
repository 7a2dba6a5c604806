// Entry of a handler thread: between bounces it waits for orders, during one it blocks.
import { parentPort, workerData } from 'node:worker_threads';
import { checked, messageOf } from '../errors.js';
import { native } from '../native/load.js';
import { Bell } from '../server/bell.js';
import { BounceHandler } from './bounce-handler.js';
import { BlockingReader, HandlerBlocks, PollingReader } from './fault-readers.js';
import type { BounceOrders, FromHandler, HandlerData } from './messages.js';

const data = workerData as HandlerData;
const blocks = new HandlerBlocks();
const queue = new (native().FaultQueue)(blocks.answers, blocks.events, blocks.control);
checked(queue.error(), 'epoll_create');

function post(message: FromHandler): void {
  parentPort?.postMessage(message);
}

function bounce(orders: BounceOrders): void {
  using reader =
    orders.reader === 'polling' ? new PollingReader(data, queue, blocks) : new BlockingReader(data, blocks);
  const handler = new BounceHandler(orders, reader, blocks);
  handler.run(data.over);
  post({ type: 'over', counts: handler.counts });
}

parentPort?.on('message', (orders: BounceOrders) => {
  try {
    bounce(orders);
  } catch (error) {
    post({ type: 'failed', error: messageOf(error) });
  }
});
post({ type: 'ready', bell: Bell.given(queue.wakeFd()) });
