// What /proc/self/fdinfo says of a userfaultfd: the kernel's own text, and every text it could write.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FeatureName } from '../../dist/index.js';
import { Feature, featureMask, featureNames } from '../../dist/userfaultfd/features.js';
import { parseFdinfo, readFdinfo } from '../../dist/userfaultfd/fdinfo.js';
import { availableFeatures } from '../../dist/index.js';
import { userfaultfd } from '../support/memory.js';
import { requires } from '../support/requires.js';

const API_DONE = 1n << 31n;

test('the features that were asked for, of every userfaultfd of this kernel', (context) => {
  requires(context, 'uffd');
  // The events of a fork need a capability of their own.
  const names = [...availableFeatures().names].filter((name) => name !== 'eventFork') as FeatureName[];
  fc.assert(
    fc.property(fc.subarray(names.filter((name) => !name.startsWith('rwp'))), (features) => {
      using uffd = userfaultfd(features);
      const info = readFdinfo(uffd.fd);
      expect(info).toMatchObject({ nonBlocking: true, apiDone: true, pending: 0, total: 0 });
      // WP_ASYNC switches WP_UNPOPULATED on.
      const implied = features.includes('wpAsync') ? Feature.wpUnpopulated : 0n;
      expect(info.features).toBe(featureMask(features) | implied);
      expect([...featureNames(info.features)]).toEqual(expect.arrayContaining(features));
      expect(parseFdinfo(readFileSync(`/proc/self/fdinfo/${uffd.fd}`, 'utf8'))).toEqual(info);
    }),
    { numRuns: 50 },
  );
});

test('every text that the kernel could write', () => {
  const bits = fc.bigInt({ min: 0n, max: API_DONE - 1n });
  const count = fc.integer({ min: 0, max: 2 ** 31 });
  fc.assert(
    fc.property(bits, fc.boolean(), fc.boolean(), count, count, (features, apiDone, nonBlocking, pending, total) => {
      const flags = nonBlocking ? '02004000' : '02000000';
      const api = ((apiDone ? API_DONE : 0n) | features).toString(16);
      const text =
        `pos:\t0\nflags:\t${flags}\nmnt_id:\t16\nino:\t1057\n` +
        `pending:\t${pending}\ntotal:\t${total}\nAPI:\taa:${api}:80000000000001ff\n`;
      expect(parseFdinfo(text)).toEqual({ nonBlocking, apiDone, features, pending, total });
    }),
  );
});

test('any text: nothing is thrown, and UFFDIO_API is done only where a whole line says so', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'API:',
      '\taa:',
      '80000000',
      ':1ff',
      '\n',
      'flags:\t',
      '04000',
      'pending:\t',
      ' ',
      'x',
      ':',
      'ffffffff',
    ),
    fc.string(),
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join('')),
  );
  const whole = /(^|[\n\r\u2028\u2029])API:[\t ]*aa:[0-9a-f]+:[0-9a-f]+($|[\n\r\u2028\u2029])/;
  fc.assert(
    fc.property(text, (anything) => {
      const { apiDone, features, pending, total } = parseFdinfo(anything);
      if (apiDone || features !== 0n) expect(anything).toMatch(whole);
      expect(Number.isSafeInteger(pending) && Number.isSafeInteger(total)).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test.each([
  ['half a line', 'API:\taa:8000'],
  ['a line that goes on', 'API:\taa:80000000:1ff x\n'],
  ['another API', 'API:\tab:80000000:1ff\n'],
  ['more than it can be', `API:\taa:${'8'.repeat(17)}:1ff\n`],
  ['the next line', 'API:\n\taa:80000000:1ff\n'],
])('not done: %s', (_, text) => {
  expect(parseFdinfo(text)).toMatchObject({ apiDone: false, features: 0n });
});
