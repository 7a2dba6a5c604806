// The documents, and what is in them: fenced blocks, links, headings, tables.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../examples/sandbox.js';

export interface Block {
  /** The document, from the root of the repository, and the line of the fence. */
  readonly document: string;
  readonly line: number;
  readonly language: string;
  readonly text: string;
  /** Of the comment `<!-- not run: reason -->` above it. */
  readonly notRun?: string;
}

export const documents = [
  'README.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

export function read(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

const fenced = /^(?<indent> *)```(?<language>\w*)\n(?<text>.*?)^\k<indent>```$/gms;

export function blocksOf(document: string): Block[] {
  const markdown = read(document);
  return Array.from(markdown.matchAll(fenced), ({ index, groups }) => {
    const { indent = '', language = '', text = '' } = groups ?? {};
    const before = markdown.slice(0, index);
    const notRun = /<!-- not run: ([^>]*) -->\s*$/.exec(before)?.[1];
    return {
      document,
      line: before.split('\n').length,
      language,
      text: text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      ...(notRun !== undefined && { notRun }),
    };
  });
}

/** performance.md shows runs of `uffd bench`, which take minutes and have tests of their own. */
export const blocks = documents.filter((document) => document !== 'docs/performance.md').flatMap(blocksOf);

/** Links to files and headings, not to other sites. */
export function linksOf(document: string): string[] {
  const prose = read(document).replaceAll(fenced, '');
  return Array.from(prose.matchAll(/\[[^\]]*\]\(([^)\s]+)\)/g), ([, target]) => target!).filter(
    (target) => !/^https?:/.test(target),
  );
}

/** The anchors GitHub makes of the headings. */
export function anchorsOf(document: string): string[] {
  const prose = read(document).replaceAll(fenced, '');
  return Array.from(prose.matchAll(/^#+ (.*)$/gm), ([, title]) =>
    title!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\- ]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** Cells of all table rows whose first cell is code: ``| `name` | ... |``. */
export function codeRowsOf(document: string): string[][] {
  return Array.from(read(document).matchAll(/^\| `.*$/gm), ([row]) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}
