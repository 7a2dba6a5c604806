// Node options for the workers. They inherit those of the process, which is right but for a process that runs a text
// instead of a file (`node --input-type=module -e ...`): a worker with a file refuses that. Then they get the loaders only.
const loaders = ['--import', '--require', '-r', '--loader', '--experimental-loader', '--conditions', '-C'];

export function workerExecArgv(): { execArgv?: string[] } {
  const given = process.execArgv;
  if (!given.some((option) => option.startsWith('--input-type'))) return {};
  const execArgv: string[] = [];
  given.forEach((option, i) => {
    const name = option.split('=', 1)[0]!;
    if (!loaders.includes(name)) return;
    execArgv.push(option);
    if (name === option && given[i + 1] !== undefined) execArgv.push(given[i + 1]!);
  });
  return { execArgv };
}
