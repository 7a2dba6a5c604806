// The process that probes: one question of its parent after the other. It owns nothing that must be given back, so it
// ends by SIGKILL, whatever its threads wait for.
import { ask } from './ask.js';
import { runningKernel } from './kernel.js';
import { findProbe } from './areas/areas.js';
import { OtherThread } from './other-thread.js';
import type { ProberMessage, Question } from './prober.js';

function tell(message: ProberMessage): void {
  process.send?.(message);
}

process.on('disconnect', () => {
  process.kill(process.pid, 'SIGKILL');
});
process.on('message', ({ ask: id, patience }: Question) => {
  const probe = findProbe(id);
  if (probe === undefined) throw new Error(`no probe ${id}`);
  void ask(probe, runningKernel, patience).then((finding) => {
    tell({ finding });
  });
});
await OtherThread.started();
tell({ ready: true });
