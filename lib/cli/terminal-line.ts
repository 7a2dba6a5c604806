// A line on stderr that is written over: only on a terminal, and not with NO_COLOR or --quiet.
export interface TerminalLine {
  show(text: string): void;
  clear(): void;
}

export function terminalLine(quiet: boolean): TerminalLine {
  const noColor = process.env['NO_COLOR'];
  if (quiet || !process.stderr.isTTY || (noColor !== undefined && noColor !== '')) {
    return { show: () => undefined, clear: () => undefined };
  }
  return {
    show: (text) => {
      process.stderr.write(`\r\x1b[K${text}`);
    },
    clear: () => {
      process.stderr.write('\r\x1b[K');
    },
  };
}
