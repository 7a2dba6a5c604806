// Serves SIZE computed bytes (a multiple of 8): node serve-computed.mjs SIZE SOCKET
import { moduleSource } from 'userfaultfd';
import { serve } from '../serve.mjs';

const [size, socket] = process.argv.slice(2);
const module = new URL('./computed.mjs', import.meta.url);
await serve(socket, { source: moduleSource({ module }, { sizeBytes: Number(size), runsIn: 'serving' }) });
