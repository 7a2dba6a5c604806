// A process that adds huge pages to the pool and takes them out again when its standard input ends: when the one that
// started it is done, or has been killed. Its argument: how many. Prints how many it got, and what was in the way.
import { readFileSync, writeFileSync } from 'node:fs';
import { messageOf } from '../errors.js';

const pool = '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages';
const size = () => Number(readFileSync(pool, 'utf8'));
const resize = (pages: number) => {
  writeFileSync(pool, String(Math.max(0, pages)));
};

// Whoever wants to end a run ends the one that started us.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);

const before = size();
let given = false;
let why = '';
try {
  resize(before + Number(process.argv[2]));
} catch (error) {
  // A container has it read-only.
  why = messageOf(error);
}
const added = Math.max(0, size() - before);

// Relative to what is there by now, not back to what was: others may have changed the pool meanwhile. Pages still in use
// leave it when they are freed.
function giveBack(): void {
  if (!given) resize(size() - added);
  given = true;
}

process.on('exit', giveBack);
process.stdout.on('error', () => undefined);
process.stdin.on('end', () => process.exit());
process.stdin.on('error', () => process.exit());
process.stdin.resume();
process.stdout.write(`${added} ${why}\n`);
