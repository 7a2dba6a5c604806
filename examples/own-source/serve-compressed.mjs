// Compresses FILE into memory, and serves it from there: node serve-compressed.mjs FILE SOCKET
import { readFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';
import { moduleSource } from 'userfaultfd';
import { serve } from '../serve.mjs';

const [file, socket] = process.argv.slice(2);
const frameBytes = 64 * 1024; // 16 pages: with the same faultAround, a frame is inflated once
const bytes = readFileSync(file);
const frames = [];
for (let at = 0; at < bytes.length; at += frameBytes) frames.push(deflateSync(bytes.subarray(at, at + frameBytes)));

const reference = { module: new URL('./compressed.mjs', import.meta.url), data: { frames, frameBytes } };
const source = moduleSource(reference, { sizeBytes: bytes.length, runsIn: 'fetching', fetchWorkers: 2 });
await serve(socket, { source, faultAround: 16 });
