// Parsers of option values: a wrong one is a usage error that says what would be right.
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import type { DialectChoice } from './serving.js';

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

const units: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** `4096`, `64K`, `512M`, `2G`. */
export function byteCount(text: string): number {
  const match = /^(\d+)([KMGT]?)$/.exec(text);
  const bytes = Number(match?.[1]) * (units[match?.[2] ?? ''] ?? NaN);
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new InvalidArgumentError('Give a number of bytes, or one with K, M, G or T.');
  }
  return bytes;
}

/** `9464`, `127.0.0.1:9464`, `[::1]:9464`; a port alone is of this host. 0 is any free port. */
export function address(text: string): { host: string; port: number } {
  const match = /^(?:(?<host>[^:[\]]+|\[[0-9a-fA-F:.]+\]):)?(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.['port'] ?? NaN);
  if (!(port <= 65_535)) throw new InvalidArgumentError('Give a port, or HOST:PORT such as 127.0.0.1:9464.');
  return { host: match?.groups?.['host']?.replace(/^\[|\]$/g, '') ?? '127.0.0.1', port };
}

/** Of a timer, in Node and in the kernel's interfaces it uses. */
const MOST_MS = 2 ** 31 - 1;

/** `10s`, `500ms`, `2m`; a bare number is seconds. As milliseconds. */
export function duration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Give a time such as 500ms, 10s or 2m.');
  const scale = { ms: 1, s: 1000, m: 60_000 }[(match[2] ?? 's') as 'ms' | 's' | 'm'];
  const milliseconds = Math.round(Number(match[1]) * scale);
  if (milliseconds > MOST_MS) throw new InvalidArgumentError('Give 24 days (35791m) at most.');
  return milliseconds;
}

/** `0,1`, `0-3`, `0-1,4`: the list format of cpuset(7). */
export function cpuList(text: string): number[] {
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(text)) throw new InvalidArgumentError('Give CPU numbers such as 0,1 or 0-3.');
  const last = lastCpu();
  return text.split(',').flatMap((range) => {
    const [first, end = first] = range.split('-').map(Number) as [number, number?];
    if (Math.max(first, end) > last) throw new InvalidArgumentError(`This machine has CPUs from 0 to ${last}.`);
    if (end < first) throw new InvalidArgumentError(`${range} goes down: give the lower number first.`);
    return Array.from({ length: end - first + 1 }, (_, i) => first + i);
  });
}

/** The highest number a CPU can have, also one that is offline; what may not be used is the kernel's to refuse. */
function lastCpu(): number {
  try {
    return Number(/\d+$/.exec(readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim())?.[0] ?? Infinity);
  } catch {
    return Infinity;
  }
}

/** `clones` for every socket, `PATH=clones` for one. */
export function dialectChoice(text: string): DialectChoice {
  const at = text.lastIndexOf('=');
  const dialect = text.slice(at + 1);
  if (dialect !== 'auto' && dialect !== 'clones')
    throw new InvalidArgumentError('Allowed are auto, clones, and PATH=clones or PATH=auto for one socket.');
  return { dialect, ...(at >= 0 && { socket: text.slice(0, at) }) };
}

/** A part of one of the names, or a regular expression; letters of either case. */
export function patternAmong(names: readonly string[]): (text: string) => RegExp {
  return (text) => {
    const pattern = patternOf(text);
    if (names.some((name) => pattern.test(name))) return pattern;
    throw new InvalidArgumentError('No row has that in its name: docs/performance.md has them.');
  };
}

function patternOf(text: string): RegExp {
  try {
    return new RegExp(text, 'i');
  } catch {
    throw new InvalidArgumentError('Give a part of a name, or a regular expression.');
  }
}
