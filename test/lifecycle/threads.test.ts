// At the limit of threads: an error value, not the end of the process.
import { expect, it } from 'vitest';
import { requires } from '../support/requires.js';
import { run } from '../e2e/support.js';

// Reads that wait in a fault nobody answers keep their threads; the abort ends them.
const script = `
import { setMaxListeners } from 'node:events';
import { Mapping, Userfaultfd } from 'userfaultfd';
const mapping = Mapping.anonymous(4096);
const userfaultfd = Userfaultfd.open({ userModeOnly: true });
userfaultfd.register(mapping, ['missing']);
const signal = AbortSignal.timeout(500);
setMaxListeners(0, signal);
const read = () => mapping.read(0, 1, { signal }).then(() => 'read', ({ code, syscall, name }) => code === 'EAGAIN' ? syscall : name);
console.log([...new Set(await Promise.all(Array.from({ length: 50 }, read)))].sort().join(','));
userfaultfd.close();
`;

it('a read that gets no thread is EAGAIN', async (context) => {
  requires(context, 'root');
  // It starts a thread of its own in every process, and does not get it here either.
  if (process.env['LD_PRELOAD']?.includes('tsan') === true) context.skip('thread sanitizer: needs threads itself');
  // As a user of its own: the limit counts all processes of a user, and root has none.
  const shell = `exec prlimit --nproc=20 node --input-type=module -e "$0"`;
  const command = ['--reuid=54321', '--clear-groups', 'sh', '-c', shell, script];
  const result = await run('setpriv', command, { env: { ...process.env, UV_THREADPOOL_SIZE: '1' } });
  expect(result.stderr).toBe('');
  expect(result.stdout.trim()).toBe('TimeoutError,pthread_create');
});
