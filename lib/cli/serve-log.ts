// What `uffd serve` says: a line for each change of state, as text or as JSON.
import { closeSync, fstatSync, writeSync } from 'node:fs';
import { naming } from './option-error.js';

export type ServeEvent = { event: string } & Record<string, unknown>;

export class ServeLog {
  readonly #json: boolean;
  readonly #quiet: boolean;

  constructor(json: boolean, quiet: boolean) {
    this.#json = json;
    this.#quiet = quiet;
  }

  /** JSON goes to stdout, where scripts look; text goes to stderr, but for the line that says it is listening. */
  say(event: ServeEvent): void {
    if (this.#json) process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`);
    else if (event.event === 'listening') process.stdout.write(`${text(event)}\n`);
    else if (!this.#quiet) process.stderr.write(`uffd serve: ${text(event)}\n`);
  }
}

function text({ event, ...details }: ServeEvent): string {
  const shown = Object.entries(details).filter(([, value]) => typeof value === 'string' || typeof value === 'number');
  return [event, ...shown.map(([key, value]) => `${key} ${value as string | number}`)].join(', ');
}

/** Tells a supervisor that we are listening: a line on a descriptor it gave us, which is closed unless it is a standard one. */
export function reportReady(fd: number): void {
  naming(`--ready-fd ${fd}`, () => {
    writeSync(fd, 'ready\n');
    if (fd > 2) closeSync(fd);
  });
}

/** Before anybody can come. @throws UffdError ERR_INVALID_ARGUMENT */
export function checkReady(fd: number): void {
  naming(`--ready-fd ${fd}`, () => fstatSync(fd));
}
