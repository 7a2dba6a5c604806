// A progress bar on stderr: only on a terminal, and not with NO_COLOR or --quiet.
import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  update(done: number): void;
  stop(): void;
}

export function progressBar(label: string, total: number, quiet: boolean): Progress {
  const noColor = process.env['NO_COLOR'];
  if (quiet || !process.stderr.isTTY || (noColor !== undefined && noColor !== '')) {
    return { update: () => undefined, stop: () => undefined };
  }
  const bar = new SingleBar(
    { format: `${label} {bar} {percentage}% | {value}/{total} pages | {eta_formatted}`, stream: process.stderr },
    Presets.shades_classic,
  );
  bar.start(total, 0);
  return {
    update: (done) => {
      bar.update(done);
    },
    stop: () => {
      bar.stop();
    },
  };
}
