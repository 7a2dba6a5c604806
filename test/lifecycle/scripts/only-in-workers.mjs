// The addon loaded in workers only, one after the other: when the last of them ends Node unloads it, signal handlers
// that point into it must not stay behind.
import assert from 'node:assert/strict';
import process from 'node:process';
import { Worker } from 'node:worker_threads';

for (let i = 0; i < 5; i++) {
  const workerData = { state: 'blocked in a fault', ending: 'terminate' };
  const worker = new Worker(new globalThis.URL('../worker.mjs', import.meta.url), { workerData });
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await worker.terminate();
  // V8 traps what WebAssembly does outside its memory by SIGSEGV; the handler in front has to pass it on.
  assert.throws(loadOutside, globalThis.WebAssembly.RuntimeError);
}
process.stdout.write('ok\n');

// (module (memory 1) (func (export "f") (result i32) i32.const 65536 i32.load))
function loadOutside() {
  const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, 102, 0, 0];
  const code = [10, 11, 1, 9, 0, 65, 128, 128, 4, 40, 2, 0, 11];
  const { Instance, Module } = globalThis.WebAssembly;
  new Instance(new Module(Uint8Array.from([...bytes, ...code]))).exports.f();
}
