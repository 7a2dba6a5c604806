// Serves what is behind a URL, by range requests: node serve-http.mjs URL SOCKET
// The source is an object on this thread, which therefore must not touch served memory: it would wait for itself.
import { objectSource } from 'userfaultfd';
import { serve } from '../serve.mjs';

const [url, socket] = process.argv.slice(2);
const { headers } = await fetch(url, { method: 'HEAD' });
const etag = headers.get('etag');

const source = {
  async read(target, targetOffset, length, offset) {
    // If-Match: bytes of a file that has changed meanwhile are an error, never a mixture.
    const range = { range: `bytes=${offset}-${offset + length - 1}`, 'if-match': etag };
    const response = await fetch(url, { headers: range });
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (response.status !== 206 || bytes.length !== length) throw new Error(`HTTP status ${response.status}`);
    target.set(bytes, targetOffset);
  },
};
await serve(socket, { source: objectSource(source, { sizeBytes: Number(headers.get('content-length')) }) });
