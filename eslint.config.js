import { readdirSync } from 'node:fs';
import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

// Imports in lib/ go one way: a directory may import only from the ranks after its own.
const ranks = [
  ['cli'],
  ['bench', 'stress'],
  ['observe', 'probe'],
  ['vmm'],
  ['transports', 'sources'],
  ['server'],
  ['kvm', 'userfaultfd'],
  ['memory'],
  ['native'],
  ['errors'],
];

function forbiddenTo(directory) {
  const rank = ranks.findIndex((names) => names.includes(directory));
  if (rank < 0) throw new Error(`lib/${directory} has no rank in eslint.config.js`);
  const before = ranks.slice(0, rank + 1).flat();
  return before.filter((name) => name !== directory);
}

const loading = ['bindings', 'node:module'].map((name) => ({
  name,
  message: 'Only lib/native/load.ts loads the addon.',
}));

function restrictImports(files, { paths = loading, patterns = [] }) {
  return { files, rules: { 'no-restricted-imports': ['error', { paths, patterns }] } };
}

function importRule(directory) {
  const names = forbiddenTo(directory).join('|');
  const pattern = {
    regex: `^(\\.\\./)+(index\\.js$|(${names})/)`,
    message: `lib/${directory} imports only from the ranks after its own, see eslint.config.js.`,
  };
  return restrictImports([`lib/${directory}/**/*.ts`], { patterns: [pattern] });
}

const directories = readdirSync('lib', { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);

const importRules = [
  restrictImports(['lib/*.ts'], {}),
  ...directories.map(importRule),
  restrictImports(['lib/errors.ts'], {
    patterns: [{ regex: '^\\.', message: 'lib/errors.ts is below everything else.' }],
  }),
  restrictImports(['lib/native/load.ts'], { paths: [] }),
];

export default defineConfig(
  globalIgnores(['build/', 'coverage/', 'dist/', 'prebuilds/']),
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // noUncheckedIndexedAccess doubts every element of a typed array; `!` says that the index is within it.
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['lib/**/*.ts'],
    rules: {
      'max-lines': ['error', { max: 300, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 60, skipBlankLines: true, skipComments: true }],
      'no-restricted-exports': ['error', { restrictDefaultExports: { direct: true, named: true } }],
    },
  },
  ...importRules,
  {
    files: ['scripts/**/*.mjs', 'examples/**/*.mjs', 'test/**/*.mjs', '*.js'],
    languageOptions: {
      globals: Object.fromEntries(
        [
          'AbortController',
          'AbortSignal',
          'Buffer',
          'TextEncoder',
          'URL',
          'clearTimeout',
          'console',
          'fetch',
          'performance',
          'process',
          'setTimeout',
        ].map((name) => [name, 'readonly']),
      ),
    },
  },
);
