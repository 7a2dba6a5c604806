// A client that holds the lock of its own address space for seconds: only a file system of its own can make it wait so
// long inside mmap(2). Everybody else is served meanwhile.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { lacks, requires } from '../support/requires.js';
import { Serve, compiled, patternFile, patternOf, run, temporaryFolder, touches, until } from './support.js';

const PAGES = 64;
const HELD_MS = 5000;
const folder = temporaryFolder();
const mount = join(folder, 'mount');
const content = Array.from({ length: PAGES }, (_, page) => patternOf(page));
let fuse: ChildProcess | undefined;

beforeEach((context) => {
  requires(context, 'uffd', 'root', 'fuse', 'libfuse3-dev');
});

beforeAll(async () => {
  if (lacks('fuse', 'libfuse3-dev', 'root')) return;
  mkdirSync(mount);
  fuse = spawn(compiled('slow-fuse.c'), ['8', `${HELD_MS}`, mount, '0'], { stdio: 'ignore' });
  await until(() => existsSync(join(mount, 'snapshot')));
});

afterAll(() => {
  if (fuse === undefined) return;
  fuse.kill('SIGKILL');
  execFileSync('umount', ['-l', mount], { stdio: 'ignore' });
});

// Whose socket is closed is asked again and again whether anything of it is left.
it.each(['holds', 'hangs-up-and-holds'])(
  '%s: another session of its worker is served meanwhile, it itself afterwards',
  async (mode) => {
    const socket = join(folder, `${mode}.sock`);
    const serve = await Serve.start(patternFile(folder, PAGES), socket, '--fault-around', '1', '--workers', '1');
    let ended = false;
    const holding = run(compiled('restless-client.c'), [mode, socket, `${PAGES}`, join(mount, 'snapshot')]);
    void holding.then(() => (ended = true));
    await serve.event('session');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const other = await run(compiled('hostile-client.c'), ['normal', socket, `${PAGES}`]);
    expect(touches(other.stdout, 'page')).toEqual(content);
    // Would have ended by now, had both waited for the same.
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(ended).toBe(false);
    const { stdout, code } = await holding;
    expect(stdout).toMatch(/^held 1$/m);
    expect(touches(stdout, 'page')).toEqual(content);
    expect(code).toBe(0);
    expect(serve.events.filter(({ event }) => event === 'unserved' || event === 'parked')).toEqual([]);
    expect(await serve.stop()).toBe(0);
  },
);
