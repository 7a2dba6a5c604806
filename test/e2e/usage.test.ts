// What a user does wrong, and the one line that says what to do.
import { chmodSync, existsSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Serve, mainScript, patternFile, run, temporaryFolder, uffd } from './support.js';

const folder = temporaryFolder();
chmodSync(folder, 0o755);
const snapshot = patternFile(folder, 4);
const empty = join(folder, 'empty');
writeFileSync(empty, '');
const secret = patternFile(folder, 1, 'secret');
chmodSync(secret, 0o600);
const socket = join(folder, 's.sock');
const NOBODY = 65534;

const wrong: [name: string, args: string[], code: number, line: RegExp, uid?: number][] = [
  ['an unknown option', ['serve', snapshot, '--socket', socket, '--bogus'], 2, /unknown option '--bogus'/],
  ['an unknown command', ['bogus'], 2, /unknown command 'bogus'/],
  ['no command', [], 2, /./],
  ['a missing argument', ['serve', '--socket', socket], 2, /missing required argument 'file'/],
  ['a missing option', ['serve', snapshot], 2, /required option '--socket <path>'/],
  ['a wrong choice', ['demo', '--order', 'backwards'], 2, /sequential, random/],
  ['a wrong number', ['demo', '--threads', '0'], 2, /whole number from 1 to 1024/],
  ['a wrong size', ['touch', '--socket', socket, '--size', '-5'], 2, /bytes/],
  ['a CPU that is not there', ['serve', snapshot, '--socket', socket, '--cpus', '0,8192'], 2, /CPUs from 0 to \d+/],
  ['CPUs that go down', ['serve', snapshot, '--socket', socket, '--cpus', '1-0'], 2, /the lower number first/],
  [
    'a snapshot, and one with its socket',
    ['serve', snapshot, '--socket', `${socket}=${snapshot}`],
    2,
    /has a snapshot of its own: give the other one as --socket PATH=.*snapshot too/,
  ],
  [
    'a socket given twice',
    ['serve', '--socket', `${socket}=${snapshot}`, '--socket', `${folder}/./s.sock=${secret}`],
    2,
    /s\.sock is given twice/,
  ],
  ['a closed --ready-fd', ['serve', snapshot, '--socket', socket, '--ready-fd', '99'], 1, /--ready-fd 99: EBADF/],
  ['a trace in no folder', ['serve', snapshot, '--socket', socket, '--trace', '/none/x'], 1, /--trace: ENOENT/],
  ['a record that is none', ['serve', snapshot, '--socket', socket, '--replay', empty], 1, /--replay: .*not JSON/],
  ['a wrong time', ['serve', snapshot, '--socket', socket, '--drain-timeout', 'soon'], 2, /500ms, 10s or 2m/],
  ['a missing file', ['serve', join(folder, 'none'), '--socket', socket], 1, /ENOENT.*none/],
  ['an empty file', ['serve', empty, '--socket', socket], 1, /is empty/],
  ['a folder', ['serve', folder, '--socket', socket], 1, /not a regular file/],
  ['a file of somebody else', ['serve', secret, '--socket', socket], 1, /EACCES.*secret/, NOBODY],
  ['demo of a missing file', ['demo', join(folder, 'none')], 1, /none/],
  ['demo of an empty file', ['demo', empty], 1, /is empty/],
  ['a socket path that is too long', ['serve', snapshot, '--socket', `/tmp/${'x'.repeat(120)}`], 1, /107 is the most/],
  ['a socket in no folder', ['serve', snapshot, '--socket', join(folder, 'none/s.sock')], 1, /ENOENT.*bind/],
  ['a socket path that is a file', ['serve', snapshot, '--socket', snapshot], 1, /is not a socket: choose another/],
  [
    'a record in no folder',
    ['serve', snapshot, '--socket', socket, '--record', '/none/x'],
    1,
    /--record: ENOENT.*\/none/,
  ],
  ['a record of a URL', ['serve', 'http://[::1]:1/x', '--socket', socket, '--record', '/tmp/x'], 2, /are for files/],
  ['a wrong address', ['serve', snapshot, '--socket', socket, '--metrics', 'here'], 2, /Give a port, or HOST:PORT/],
  ['nobody who listens', ['touch', '--socket', join(folder, 'nobody.sock'), '--size', '4096'], 1, /ENOENT.*connect/],
  [
    'no permission for userfaultfd',
    ['touch', '--socket', socket, '--size', '4096'],
    1,
    /EPERM.*device mode: .*\/dev\/userfaultfd.*sysctl: .*vm\.unprivileged_userfaultfd=1/,
    NOBODY,
  ],
];

describe('one line on stderr, and the exit status', () => {
  it.each(wrong)('%s', async (name, args, code, line, uid) => {
    const result = await uffd(args, uid === undefined ? {} : { uid });
    expect(result.stderr).toMatch(line);
    expect(result.code).toBe(code);
    if (name !== 'no command') expect(result.stderr.trim().split('\n')).toHaveLength(1);
    expect(result.stdout).toBe('');
    expect(existsSync(socket)).toBe(false);
  });
});

describe('the socket path', () => {
  it('a live socket is not replaced', async () => {
    const path = join(folder, 'live.sock');
    const first = await Serve.start(snapshot, path);
    const second = await uffd(['serve', snapshot, '--socket', path]);
    expect(second.code).toBe(1);
    expect(second.stderr).toMatch(/a live process listens at .*live\.sock: stop it or choose another path/);
    expect((await uffd(['touch', '--socket', path, '--size', '16K', '--json'])).code).toBe(0);
    expect(await first.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  it('a stale socket is replaced', async () => {
    const path = join(folder, 'stale.sock');
    const killed = await Serve.start(snapshot, path);
    killed.kill('SIGKILL');
    await killed.exited;
    expect(existsSync(path)).toBe(true);
    const next = await Serve.start(snapshot, path);
    expect((await uffd(['touch', '--socket', path, '--size', '16K', '--json'])).code).toBe(0);
    expect(await next.stop()).toBe(0);
  });

  it('a socket of another program is left alone', async () => {
    const path = join(folder, 'other.sock');
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(path, resolve));
    const result = await uffd(['serve', snapshot, '--socket', path]);
    expect(result.stderr).toMatch(/live process/);
    expect(existsSync(path)).toBe(true);
    await new Promise((resolve) => other.close(resolve));
  });

  it('is made 0600', async () => {
    const path = join(folder, 'mode.sock');
    const serve = await Serve.start(snapshot, path);
    const { statSync } = await import('node:fs');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await serve.stop();
  });
});

describe('sizes that do not fit', () => {
  it('a mapping after the last page of the file is refused', async () => {
    const odd = patternFile(folder, 2, 'odd');
    truncateSync(odd, 4097);
    const path = join(folder, 'odd.sock');
    const serve = await Serve.start(odd, path);
    const right = await uffd(['touch', '--socket', path, '--size', '4097', '--json']);
    expect(right.code).toBe(0);
    const tooLong = await uffd(['touch', '--socket', path, '--size', '8193']);
    expect(tooLong.code).toBe(1);
    expect(tooLong.stderr).toMatch(/after the last page of the source \(4097 bytes\)/);
    await serve.stop();
  });
});

it('a second process that cannot be started', async () => {
  const elsewhere = 'data:text/javascript,process.execPath="/none/node"';
  const result = await run(process.execPath, ['--import', elsewhere, mainScript, 'demo', snapshot]);
  expect(result.stderr).toBe('uffd: a second process cannot be started: spawn /none/node ENOENT\n');
  expect(result.code).toBe(1);
});

describe('help', () => {
  it.each([[], ['serve'], ['touch'], ['demo']])('uffd %s --help', async (...command) => {
    const result = await uffd([...command, '--help']);
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/^Usage: uffd/);
  });

  it('--version', async () => {
    mkdirSync(folder, { recursive: true });
    expect((await uffd(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+/);
  });
});

it('a reader that stops reading is no reason to complain', async () => {
  // More than a pipe holds, so that it cannot have been written before the reader went away.
  const { stderr } = await run('sh', [
    '-c',
    `"$0" "$1" probe --json --only 'copy.*' | exec true`,
    process.execPath,
    mainScript,
  ]);
  expect(stderr).toBe('');
});
