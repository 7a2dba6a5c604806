// The one place that loads the addon: on first use, never on import.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { UffdError, messageOf } from '../errors.js';
import type { NativeAddon } from './contract.js';

const packageRoot = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);
let loaded: NativeAddon | undefined;

/** Every way to the addon, in order: built from source (also by cmake-js), then the one in the package. */
const places = [
  ['module_root', 'build', 'Release', 'bindings'],
  ['module_root', 'build', 'cmake', 'Release', 'bindings'],
  ['module_root', 'prebuilds', 'platform_dir', 'bindings'],
];

/**
 * The addon. `UFFD_ADDON` names another file to load, for builds with sanitizers.
 * @throws UffdError ERR_UNSUPPORTED_PLATFORM, ERR_ADDON_NOT_FOUND, ERR_ADDON_LOAD
 */
export function native(): NativeAddon {
  return (loaded ??= load());
}

function load(): NativeAddon {
  if (process.platform !== 'linux') {
    throw new UffdError('ERR_UNSUPPORTED_PLATFORM', `userfaultfd is a Linux system call; this is ${process.platform}`);
  }
  const override = process.env['UFFD_ADDON'];
  try {
    if (override !== undefined) return require(override) as NativeAddon;
    const bindings = require('bindings') as (options: object) => NativeAddon;
    return bindings({
      bindings: 'uffd.node',
      module_root: packageRoot,
      platform_dir: `linux-${process.arch}`,
      try: places,
    });
  } catch (error) {
    throw explain(error);
  }
}

function explain(error: unknown): UffdError {
  const tries = (error as { tries?: string[] }).tries;
  if (tries !== undefined) {
    return new UffdError(
      'ERR_ADDON_NOT_FOUND',
      `no compiled addon for linux-${process.arch}: run \`npm explore userfaultfd -- npm run build:addon\` ` +
        '(needs g++, make, python3 and the Node.js headers)',
      { cause: error },
    );
  }
  return new UffdError('ERR_ADDON_LOAD', `the addon cannot be loaded: ${messageOf(error)}`, { cause: error });
}
