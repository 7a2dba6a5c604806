// One kernel, booted once: 2 CPUs and 2 NUMA nodes, in QEMU's emulator, so that neither the host's KVM nor root is needed.
import { createWriteStream, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import type { Kernel } from './kernel.js';
import type { Qemu } from './qemu.js';
import type { Workspace } from './workspace.js';

export interface Boot {
  readonly kernel: Kernel;
  readonly initramfs: string;
  readonly disk: string;
  readonly megabytes: number;
  /** For the kernel's command line, which the guest's script reads. */
  readonly words: readonly string[];
  readonly timeoutMs: number;
}

/** How far a guest came. Only one that has said it is done has results. */
export type Ending = 'done' | 'not started' | 'panicked' | 'timed out' | 'ended early';

export interface Ended {
  readonly ending: Ending;
  /** A folder with what the guest has written; there is one when it is done. */
  readonly results: string;
  /** What came over the serial line. */
  readonly serial: string;
  readonly seconds: number;
}

const RESULT_BYTES = 64 * 2 ** 20;
const SWAP_BYTES = 512 * 2 ** 20;

export async function boot(qemu: Qemu, machine: Boot, workspace: Workspace): Promise<Ended> {
  const { kernel } = machine;
  const results = workspace.folder('runs', kernel.name);
  rmSync(results, { recursive: true, force: true });
  workspace.folder('runs', kernel.name);
  const disks = { results: join(results, 'results.tar'), swap: join(results, 'swap') };
  for (const [path, bytes] of [
    [disks.results, RESULT_BYTES],
    [disks.swap, SWAP_BYTES],
  ] as const) {
    writeFileSync(path, '');
    truncateSync(path, bytes);
  }
  const log = createWriteStream(join(results, 'serial.log'));
  const announce = announcer((stage) => workspace.say(`${kernel.name}: ${stage}`));
  const started = performance.now();
  const { timedOut, output } = await workspace
    .run(qemu.program, [...qemu.args, ...arguments_(machine, disks)], {
      timeoutMs: machine.timeoutMs,
      onOutput: (text) => {
        log.write(text);
        announce(text);
      },
    })
    .finally(() => finished(log.end()));
  rmSync(disks.swap);
  const ending = endingOf(output, timedOut);
  if (ending === 'done' && statSync(disks.results).size === RESULT_BYTES) {
    await workspace.succeed('tar', ['--extract', '--file', disks.results, '--directory', results]);
  }
  rmSync(disks.results);
  return { ending, results, serial: output, seconds: (performance.now() - started) / 1000 };
}

/** Says once what the guest has come to; its lines come in pieces. */
function announcer(say: (stage: string) => void): (text: string) => void {
  const stages = new Map([
    ['LAB-STARTED', 'has booted, probing'],
    ['LAB-PROBED', 'has been probed'],
  ]);
  let heard = '';
  return (text) => {
    heard += text;
    for (const [word, stage] of stages) {
      if (!heard.includes(word)) continue;
      stages.delete(word);
      say(stage);
    }
  };
}

function endingOf(output: string, timedOut: boolean): Ending {
  if (/^LAB-DONE\r?$/m.test(output)) return 'done';
  if (/Kernel panic|Oops:|BUG: unable to handle/.test(output)) return 'panicked';
  if (timedOut) return 'timed out';
  return output.includes('LAB-STARTED') ? 'ended early' : 'not started';
}

function arguments_(
  { kernel, initramfs, disk, words, megabytes }: Boot,
  disks: { results: string; swap: string },
): string[] {
  const half = `${megabytes / 2}M`;
  return [
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
    ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2,sockets=2', '-m', `${megabytes}M`],
    ...['-object', `memory-backend-ram,id=m0,size=${half}`, '-object', `memory-backend-ram,id=m1,size=${half}`],
    ...['-numa', 'node,nodeid=0,memdev=m0,cpus=0', '-numa', 'node,nodeid=1,memdev=m1,cpus=1'],
    ...drive(disk, 'snapshot=on,format=raw'),
    ...drive(disks.results, 'format=raw'),
    ...drive(disks.swap, 'format=raw,cache=unsafe'),
    ...['-kernel', kernel.image, '-initrd', initramfs],
    // A panic ends QEMU instead of hanging: -no-reboot.
    ...['-append', ['console=ttyS0', 'panic=-1', 'quiet', ...words].join(' ')],
  ];
}

function drive(file: string, options: string): string[] {
  return ['-drive', `if=virtio,file=${file},${options}`];
}
