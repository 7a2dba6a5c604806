import { constants } from 'node:os';
import { expect, test } from 'vitest';
import { KernelError, MemoryFaultError, UffdError, errorCodes } from '../dist/index.js';
import { checked, errnoName, messageOf } from '../dist/errors.js';

test.each([
  [-1, 'EPERM', 'operation not permitted'],
  [-22, 'EINVAL', 'invalid argument'],
  [-34, 'ERANGE', 'result too large'],
  [-43, 'EIDRM', 'identifier removed'],
  [-125, 'ECANCELED', 'operation canceled'],
  [-133, 'EHWPOISON', 'memory page has hardware error'],
  [-4000, 'E4000', 'unknown error'],
])('errno %d is %s', (errno, code, text) => {
  expect(errnoName(errno)[0]).toBe(code);
  expect(errnoName(errno)[1].toLowerCase()).toContain(text.split(' ')[0]);
});

test('names agree with those of Node', () => {
  for (const [name, errno] of Object.entries(constants.errno)) {
    // Aliases: EAGAIN and ENOTSUP are the names in use.
    if (['EWOULDBLOCK', 'EOPNOTSUPP', 'ENOTSUP'].includes(name)) continue;
    const [code] = errnoName(-errno);
    if (!/^E\d+$/.test(code)) expect(code).toBe(name);
  }
});

test('a kernel error has the shape of those of Node', () => {
  const error = new KernelError(-22, 'UFFDIO_CONTINUE', 'region 0, page 17');
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name: 'KernelError', errno: -22, code: 'EINVAL', syscall: 'UFFDIO_CONTINUE' });
  expect(error.message).toBe('EINVAL: invalid argument, UFFDIO_CONTINUE (region 0, page 17)');
  expect(new KernelError(-2, 'open').message).toBe('ENOENT: no such file or directory, open');
});

test('an error of the library has a code of the table and keeps its cause', () => {
  const cause = new Error('why');
  const error = new UffdError('ERR_CLOSED', 'it is closed', { cause });
  expect(error).toMatchObject({ name: 'UffdError', code: 'ERR_CLOSED', message: 'it is closed', cause });
  for (const [code, text] of Object.entries(errorCodes)) {
    expect(code).toMatch(/^ERR_[A-Z_]+$/);
    expect(text).toMatch(/^[A-Z].*\.$/s);
  }
});

test('a memory fault is an error of the library with signal and page', () => {
  const error = new MemoryFaultError('SIGBUS', 2, 17);
  expect(error).toBeInstanceOf(UffdError);
  expect(error).toMatchObject({ code: 'ERR_MEMORY_FAULT', signal: 'SIGBUS', siCode: 2, page: 17 });
});

test('checked lets through what is no negative errno', () => {
  expect(checked(0, 'read')).toBe(0);
  expect(checked(7n, 'read')).toBe(7n);
  expect(checked([1, 2], 'fstat')).toEqual([1, 2]);
  expect(() => checked(-9, 'fstat', 'memfd')).toThrow(
    expect.objectContaining({ errno: -9, code: 'EBADF', syscall: 'fstat' }),
  );
});

test('messageOf is one line for whatever was thrown', () => {
  expect([messageOf(new Error('x')), messageOf('y'), messageOf(undefined)]).toEqual(['x', 'y', 'undefined']);
});
