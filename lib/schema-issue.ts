// What is wrong with a value from outside, in a few words: the first thing that its schema found.
import * as v from 'valibot';

export function schemaIssue([issue]: readonly [v.BaseIssue<unknown>, ...v.BaseIssue<unknown>[]]): string {
  const where = v.getDotPath(issue) ?? 'the whole';
  return issue.received === 'undefined' ? `${where} is missing` : `${where}: ${issue.message}`;
}
