// docs/probe.md against the code.
import { expect, test } from 'vitest';
import { areas } from '../../dist/probe/areas/areas.js';
import { parseReport } from '../../dist/probe/compare.js';
import { verdictsOf } from '../../dist/probe/verdicts.js';
import { blocks, codeRowsOf } from './markdown.js';

const names = codeRowsOf('docs/probe.md').map(([name]) => name!.replaceAll('`', ''));

test('every area, result, use and blocker has its row', () => {
  const wanted = [
    ...areas.map(({ name }) => name),
    ...verdictsOf([]).map(({ use }) => use),
    ...['yes', 'no', 'differs', 'blocked', 'skipped'],
  ];
  expect(names).toEqual(expect.arrayContaining(wanted));
});

test('the example of a report is one', () => {
  const example = blocks.find(({ document, language }) => document === 'docs/probe.md' && language === 'json');
  const { probes } = parseReport(example!.text, 'the example');
  expect(probes.map(({ id }) => id)).toEqual(['copy.overGuard']);
});
