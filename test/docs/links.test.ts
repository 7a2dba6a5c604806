// Links between the documents lead somewhere.
import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import { root } from '../examples/sandbox.js';
import { anchorsOf, documents, linksOf } from './markdown.js';

function broken(document: string, link: string): boolean {
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? document : normalize(join(dirname(document), path));
  return !existsSync(join(root, target)) || (anchor !== undefined && !anchorsOf(target).includes(anchor));
}

test.each(documents)('%s', (document) => {
  expect(linksOf(document).filter((link) => broken(document, link))).toEqual([]);
});
