// One setup of a checkout at a time. The lock is a listening abstract socket rather than a file with
// a pid: the kernel takes it back however its holder ends, so none is ever stale, and a waiter that
// connects to it is woken by the connection's end.

import { statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export class LockTimeout extends Error {}

/** Runs `work` while holding the lock of the folder `root`; `onWait` is called once if it is taken. */
export async function oneAtATime(root, { deadlineMs, onWait }, work) {
  const lock = await acquire(lockName(root), Date.now() + deadlineMs, onWait);
  try {
    return await work();
  } finally {
    lock.release();
  }
}

// By inode, since one checkout can be reached by several paths.
function lockName(root) {
  const { dev, ino } = statSync(root);
  return `\0userfaultfd-setup-${dev}-${ino}`;
}

async function acquire(name, deadline, onWait) {
  let lock = await tryAcquire(name);
  if (!lock) onWait();
  while (!lock) {
    if (Date.now() >= deadline) throw new LockTimeout();
    await released(name, deadline);
    lock = await tryAcquire(name);
  }
  return lock;
}

function tryAcquire(name) {
  const waiting = new Set();
  const server = createServer((socket) => {
    waiting.add(socket);
    socket.on('error', () => {}).on('close', () => waiting.delete(socket));
  });
  const release = () => {
    server.close();
    for (const socket of waiting) socket.destroy();
  };
  return new Promise((resolve, reject) => {
    server.on('error', (error) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(name, () => resolve({ release }));
  });
}

async function released(name, deadline) {
  const socket = connect(name);
  const overdue = setTimeout(() => socket.destroy(), deadline - Date.now());
  await new Promise((resolve) =>
    socket
      .on('error', () => {})
      .on('close', resolve)
      .resume(),
  );
  clearTimeout(overdue);
  // The one that was faster may be the next holder: do not spin on it.
  await delay(50);
}
