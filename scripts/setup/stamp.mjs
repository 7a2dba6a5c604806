// Says whether a product is still the one its inputs would give. The stamp lies within the product,
// so that whatever removes the product removes the stamp.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A hash over the content of files and folders; a missing one counts as empty. */
export function contentHash(root, paths, ...facts) {
  const hash = createHash('sha256').update(JSON.stringify(facts));
  for (const path of paths.flatMap((each) => filesUnder(root, each))) {
    const content = readFileSync(join(root, path));
    hash.update(`\0${path}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

function filesUnder(root, path) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (!statSync(full).isDirectory()) return [path];
  return readdirSync(full)
    .sort()
    .flatMap((name) => filesUnder(root, join(path, name)));
}

export function stampMatches(file, hash) {
  return existsSync(file) && readFileSync(file, 'utf8') === stampText(hash);
}

export function writeStamp(file, hash) {
  writeFileSync(file, stampText(hash));
}

export function removeStamp(file) {
  rmSync(file, { force: true });
}

function stampText(inputs) {
  return `${JSON.stringify({ inputs })}\n`;
}
