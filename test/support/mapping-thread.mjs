// A worker that owns one mapping and changes it when told to.
import { parentPort } from 'node:worker_threads';
import { Mapping } from '../../dist/index.js';

let mapping;

parentPort.on('message', (command) => {
  let answer = 'done';
  if ('map' in command) {
    mapping = Mapping.anonymous(command.map);
    answer = { start: mapping.address, lengthBytes: mapping.lengthBytes };
  } else if ('advise' in command) mapping.advise(command.advise, command.offset, command.lengthBytes);
  else mapping.unmap();
  parentPort.postMessage(answer);
});
