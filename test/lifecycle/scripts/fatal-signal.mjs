// SIGSEGV and SIGBUS that no access waits for kill the process as they did without the addon.
import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { Mapping } from '../../../dist/index.js';
import { assert, ok, page } from './common.js';

if (process.argv[2] === undefined) {
  for (const signal of ['SIGSEGV', 'SIGBUS']) {
    // Without a sanitizer, which would make a report and another signal of it.
    const env = { ...process.env };
    delete env.LD_PRELOAD;
    delete env.UFFD_ADDON;
    const options = { timeout: 5000, stdio: 'ignore', env };
    const result = spawnSync(process.execPath, ['--expose-gc', import.meta.filename, signal], options);
    assert.equal(result.signal, signal);
  }
  ok();
} else {
  await Mapping.anonymous(page).touch();
  process.kill(process.pid, process.argv[2]);
  await new Promise((resolve) => globalThis.setTimeout(resolve, 4000));
}
