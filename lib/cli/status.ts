// `uffd serve --status --socket PATH`: what a running server says of itself.
import { existsSync } from 'node:fs';
import { askStatus } from '../transports/status-request.js';
import { ExitCode } from './exit.js';

interface SessionStatus {
  readonly session: number;
  readonly pages: number;
  readonly faults: number;
  readonly filledPages: number;
  readonly waiting: number;
  readonly reason?: string;
  readonly pid?: number;
  readonly sharedBytes?: number;
  readonly privateBytes?: number;
}

export async function showStatus({ socket, json }: { socket: readonly string[]; json: boolean }): Promise<number> {
  for (const pair of socket) {
    // As it was served: PATH=FILE, or a path with a = in it.
    const path = existsSync(pair) ? pair : pair.split('=')[0]!;
    const status = await askStatus(path);
    process.stdout.write(json ? `${JSON.stringify(status)}\n` : text(path, status));
  }
  return ExitCode.ok;
}

function text(path: string, status: Record<string, unknown>): string {
  const { pid, file, sizeBytes, sessionCount } = status;
  const lines = (status['sessions'] as SessionStatus[]).map(
    ({ session, pid, pages, faults, filledPages, waiting, reason, sharedBytes, privateBytes }) => {
      const who = pid === undefined ? '' : ` (process ${pid})`;
      const why = reason === undefined ? '' : ` (${reason})`;
      const memory =
        sharedBytes === undefined
          ? `${filledPages} of ${pages} pages filled`
          : `${sharedBytes} bytes shared, ${privateBytes ?? 0} of its own`;
      return `  session ${session}${who}: ${memory}, ${faults} faults, ${waiting} waiting${why}\n`;
    },
  );
  for (const session of (status['silent'] as number[] | undefined) ?? [])
    lines.push(`  session ${session}: not heard of now, its client holds its serving worker\n`);
  // Of itself a server that is not `uffd serve` tells what it likes, or nothing.
  const who = pid === undefined ? 'a server' : `process ${pid as number}`;
  const what = file === undefined ? ' serves' : ` serves ${file as string}, ${sizeBytes as number} bytes, to`;
  const clients = sessionCount === 1 ? '1 client' : `${sessionCount as number} clients`;
  return `${path}: ${who}${what} ${clients}\n${lines.join('')}`;
}
