// Serves FILE with a policy of our own: node server.mjs FILE SOCKET
import { fileSource } from 'userfaultfd';
import { serve } from '../serve.mjs';

const [file, socket] = process.argv.slice(2);
await serve(socket, {
  source: fileSource(file),
  policy: { module: new URL('./read-ahead.mjs', import.meta.url), data: { most: 256 } },
});
