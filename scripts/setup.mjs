// Sets up whatever a checkout is missing (dependencies, addon, dist/), and does nothing when nothing changed.
// Only Node's own modules here and in what this imports: nothing else is installed yet.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import process from 'node:process';
import { MissingTool } from './build-addon.mjs';
import { runChild } from './child.mjs';
import { isMain } from './is-main.mjs';
import { LockTimeout, oneAtATime } from './setup/lock.mjs';
import { removeStamp, stampMatches, writeStamp } from './setup/stamp.mjs';
import { isMade, root, steps } from './setup/steps.mjs';

const logFile = join(root, 'build/setup.log');
const lockDeadlineMs = 15 * 60_000;
const stepTimeoutMs = 10 * 60_000;

/** The setup cannot go on; the message is all that the user needs to see. */
export class SetupFailed extends Error {}

/** Throws SetupFailed. Says on stderr what it does, unless `quiet`. */
export async function setUp({ quiet = false } = {}) {
  const outdated = steps.filter((step) => !upToDate(step, step.inputs()));
  if (outdated.length === 0) return;
  const say = (what) => quiet || console.error(`setting up: ${what}`);
  const onWait = () => say('waiting for another setup of this checkout');
  try {
    // Before the first step: nobody should wait for an installation to hear that there is no compiler.
    for (const step of outdated) step.require?.();
    await oneAtATime(root, { deadlineMs: lockDeadlineMs, onWait }, async () => {
      for (const step of steps) await bringUpToDate(step, say);
    });
  } catch (error) {
    if (error instanceof MissingTool) throw new SetupFailed(error.message);
    if (error instanceof LockTimeout)
      throw new SetupFailed('Another setup of this checkout has not ended for 15 minutes.');
    throw error;
  }
}

/** For the programs that need a setup before anything else: a failure ends the process. */
export async function setUpOrExit(options) {
  try {
    await setUp(options);
  } catch (error) {
    if (!(error instanceof SetupFailed)) throw error;
    console.error(error.message);
    process.exit(1);
  }
}

function upToDate(step, inputs) {
  return isMade(step) && stampMatches(step.stamp, inputs);
}

// The stamp goes first and comes back last, with what the inputs were at the start: interrupted, or
// edited meanwhile, the step runs again next time.
async function bringUpToDate(step, say) {
  const inputs = step.inputs();
  if (upToDate(step, inputs)) return;
  say(step.announcement);
  removeStamp(step.stamp);
  const log = [];
  const status = await step.make((command, args) => runLogged(log, command, args));
  if (status !== 0) throw new SetupFailed(explain(step, log.join('')));
  writeStamp(step.stamp, inputs);
}

async function runLogged(log, command, args) {
  try {
    const { status, output } = await runChild(command, args, {
      cwd: root,
      timeoutMs: stepTimeoutMs,
    });
    log.push(output);
    return status ?? 1;
  } catch (error) {
    log.push(`${command} does not start: ${error.message}\n`);
    return 1;
  }
}

function explain(step, output) {
  mkdirSync(join(root, 'build'), { recursive: true });
  writeFileSync(logFile, output);
  const tail = output.trimEnd().split('\n').slice(-30).join('\n');
  return `${tail}\n${step.failure}; all of its output is in ${relative(process.cwd(), logFile)}`;
}

if (isMain(import.meta)) {
  await setUpOrExit({ quiet: process.argv.includes('--quiet') });
}
