// Asking a running server how it is, at the socket its clients come to.
import { KernelError, UffdError } from '../errors.js';
import { native } from '../native/load.js';
import { Connection } from './connection.js';

/** In place of a handshake's mappings, without descriptors. */
export const STATUS_REQUEST = '["status"]';

/**
 * The line a server answers with: one JSON object.
 * @throws KernelError of connect(2), UffdError ERR_SERVER_GONE
 */
export async function askStatus(path: string, timeoutMs = 5000): Promise<Record<string, unknown>> {
  const fd = native().UnixSocket.connect(path);
  if (fd < 0) throw new KernelError(fd, 'connect', path);
  using connection = new Connection(fd);
  connection.send(STATUS_REQUEST);
  const answer = JSON.parse(await firstLine(connection, timeoutMs)) as Record<string, unknown>;
  if (answer['event'] === 'refused') throw new UffdError('ERR_HANDOFF_REFUSED', String(answer['reason']));
  return answer;
}

function firstLine(connection: Connection, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const end = (error?: Error) => {
      clearTimeout(timer);
      connection.pause();
      if (error === undefined) resolve(text.slice(text.indexOf('{'), text.indexOf('\n')));
      else reject(error);
    };
    const gone = (why: string) => {
      end(new UffdError('ERR_SERVER_GONE', `the fault server ${why}`));
    };
    const timer = setTimeout(gone, timeoutMs, `did not answer within ${timeoutMs} ms`);
    connection.onData((chunk) => {
      // A server of clones gives everybody their memory first, whatever they have come for.
      for (const fd of chunk.descriptors) native().closeFd(fd);
      text += Buffer.from(chunk.bytes).toString('utf8');
      if (text.includes('\n')) end();
      else if (chunk.bytes.length === 0) gone('closed the connection without an answer');
    }, end);
  });
}
